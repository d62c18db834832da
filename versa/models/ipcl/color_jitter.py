"""Color jitter of views, between grey and normalise.

The arithmetic is torchvision's on floating-point tensors, so that a jitter of given
factors and order is torchvision's up to rounding. It is written twice: one view after
the other, and for all views at once without a branch, for a compiler. The authors lost
six points of kNN accuracy by a jitter in a fixed order with another way to HSV.
"""

import torch

_GREY = (0.2989, 0.587, 0.114)  # torchvision's weights of red, green, blue
_BRIGHTNESS, _CONTRAST, _SATURATION, _HUE = range(4)
_SERIAL = 32767  # elements; torch runs an operation on fewer than 32768 in one thread
_Planes = tuple[torch.Tensor, ...]
_Amount = torch.Tensor | float


def color_jitter_each(
    x: torch.Tensor,
    grey: torch.Tensor,
    jitter: torch.Tensor,
    order: torch.Tensor,
    factors: torch.Tensor,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    dtype: torch.dtype,
    *,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """Grey, jitter and normalise views x (n, 3, height, width), one after the other.

    Strips of a view stay in a core's cache, and torch does not share them out among its
    threads, which would wait for each other after every small step.
    """
    made = torch.empty(x.shape, dtype=dtype, device=x.device) if out is None else out
    height, width = x.shape[-2:]
    rows = max(1, _SERIAL // max(1, width))
    change = {_BRIGHTNESS: _brightened, _SATURATION: _saturated, _HUE: _hue_shifted}
    for row, (is_grey, is_jittered, steps, amounts) in enumerate(
        zip(
            grey.tolist(),
            jitter.tolist(),
            order.tolist(),
            factors.tolist(),
            strict=True,
        )
    ):
        strips = [_planes(strip) for strip in x[row].split(rows, dim=1)]
        if is_grey:
            strips = [(_luma(planes),) * 3 for planes in strips]
        for k in steps if is_jittered else ():
            if k == _CONTRAST:
                sums = [_luma(planes).sum() for planes in strips]
                middle = torch.stack(sums).sum() / (height * width)
                strips = [_blended(planes, middle, amounts[k]) for planes in strips]
            else:
                strips = [change[k](planes, amounts[k]) for planes in strips]
        for strip, planes in zip(made[row].split(rows, dim=1), strips, strict=True):
            for c, plane in enumerate(planes):
                strip[c] = (plane - mean[c]).div_(std[c])
    return made


def color_jitter_fused(
    x: torch.Tensor,
    grey: torch.Tensor,
    jitter: torch.Tensor,
    order: torch.Tensor,
    factors: torch.Tensor,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    dtype: torch.dtype,
) -> torch.Tensor:
    """`color_jitter_each` for all views at once, without a branch, for a compiler.

    Contrast needs the mean of the view when it has its turn, all else is per pixel:
    before and after that turn all three other changes are computed and one is selected.
    """
    planes = _planes(x, axis=1)
    wide = (slice(None), None, None)  # (n,) against (n, height, width)
    amounts = [factors[:, k][wide].to(planes[0].dtype) for k in range(4)]
    turn = (order == _CONTRAST).int().argmax(dim=1)  # when contrast is

    def chosen(where: torch.Tensor, new: _Planes, old: _Planes) -> _Planes:
        r, g, b = (torch.where(where, n, o) for n, o in zip(new, old, strict=True))
        return r, g, b

    def changed(old: _Planes, place: int, allowed: torch.Tensor) -> _Planes:
        step = torch.where(allowed & jitter, order[:, place], -1)[wide]
        result = old
        for k, change in (
            (_BRIGHTNESS, _brightened),
            (_SATURATION, _saturated),
            (_HUE, _hue_shifted),
        ):
            result = chosen(step == k, change(old, amounts[k]), result)
        return result

    planes = chosen(grey[wide], (_luma(planes),) * 3, planes)
    for place in range(3):
        planes = changed(planes, place, turn > place)
    planes = chosen(jitter[wide], _contrasted(planes, amounts[_CONTRAST]), planes)
    for place in range(1, 4):
        planes = changed(planes, place, turn < place)
    normal = [(planes[c] - mean[c]) / std[c] for c in range(3)]
    return torch.stack(normal, dim=1).to(dtype)


# A view is three planes, red, green and blue in [0, 1], each (height, width) or
# (n, height, width). The amount is a number, or a tensor that broadcasts.


def _planes(x: torch.Tensor, axis: int = 0) -> _Planes:
    planes = x.unbind(axis)
    if x.dtype == torch.uint8:
        return tuple(plane.to(torch.float32).div_(255) for plane in planes)
    real = torch.promote_types(x.dtype, torch.float32)
    return tuple(plane.to(real) for plane in planes)


def _luma(planes: _Planes) -> torch.Tensor:
    r, g, b = planes
    return (_GREY[0] * r).add_(g, alpha=_GREY[1]).add_(b, alpha=_GREY[2])


def _brightened(planes: _Planes, amount: _Amount) -> _Planes:
    r, g, b = ((plane * amount).clamp_(0, 1) for plane in planes)
    return r, g, b


def _contrasted(planes: _Planes, amount: _Amount) -> _Planes:
    return _blended(planes, _luma(planes).mean(dim=(-2, -1), keepdim=True), amount)


def _saturated(planes: _Planes, amount: _Amount) -> _Planes:
    return _blended(planes, _luma(planes), amount)


def _blended(planes: _Planes, other: torch.Tensor, amount: _Amount) -> _Planes:
    rest = (1 - amount) * other
    r, g, b = ((plane * amount).add_(rest).clamp_(0, 1) for plane in planes)
    return r, g, b


def _hue_shifted(planes: _Planes, amount: _Amount) -> _Planes:
    """Colours turned on the hue circle; value and saturation stay."""
    r, g, b = planes
    value = torch.maximum(torch.maximum(r, g), b)
    chroma = value - torch.minimum(torch.minimum(r, g), b)
    # which channel is the largest, as 0 or 1: cheaper on a CPU than a selection
    not_red = (value - r).sign_()
    blue = (value - g).sign_().mul_(not_red)
    green = not_red - blue
    h = g - b
    h.addcmul_(h, not_red, value=-1).addcmul_(b - r, green).addcmul_(r - g, blue)
    h.div_(chroma.clamp(min=torch.finfo(r.dtype).tiny))
    h.add_(green, alpha=2.0).add_(blue, alpha=4.0).add_(6.0 * amount)
    h.add_((h * (1 / 6)).floor_(), alpha=-6.0)  # modulo 6
    red, green, blue = ((h - n).abs_().clamp_(1, 2) for n in (3.0, 2.0, 4.0))
    base = value + chroma  # low + 2 chroma
    return (
        base.addcmul(chroma, red - 3.0),
        base.addcmul(chroma, green, value=-1),
        base.addcmul(chroma, blue, value=-1),
    )
