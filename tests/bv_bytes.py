"""Bytes of BrainVoyager's files after their published formats, without bvbabel."""

import struct

import numpy as np


def _text(value):
    return value.encode() + b"\0"


def _box(start, shape, resolution, code):
    """XStart, XEnd, YStart, ... of a box whose shape is given along X, Y, Z."""
    ends = [first + resolution * n for first, n in zip(start, shape, strict=True)]
    pairs = zip(start, ends, strict=True)
    return struct.pack(f"<6{code}", *(value for pair in pairs for value in pair))


def _shape(data):
    """(X, Y, Z) of data that are stored with Z outermost."""
    return data.shape[2], data.shape[1], data.shape[0]


def vtc_bytes(data, *, start, resolution=1, convention=1, space=3, kind=2, prt=""):
    """VTC of data (Z, Y, X, n_volumes)."""
    head = struct.pack("<h", 3) + _text("run 1.fmr")
    head += struct.pack("<h", bool(prt)) + (_text(prt) if prt else b"")
    head += struct.pack("<4h", 0, kind, data.shape[3], resolution)
    head += _box(start, _shape(data), resolution, "h")
    head += struct.pack("<2Bf", convention, space, 2000.0)
    return head + data.astype({1: "<i2", 2: "<f4"}[kind]).tobytes()


def vmp_bytes(
    data, names, *, start, resolution=1, cube=(256, 256, 256), magic=0xA1B2C3D4, kind=1
):
    """NR-VMP of maps (n_maps, Z, Y, X)."""
    head = struct.pack("<I2h", magic, 6, 1)
    head += struct.pack("<7i", len(data), 0, 0, 0, 0, 0, 0)
    head += _box(start, _shape(data[0]), resolution, "i")
    head += struct.pack("<4i", resolution, *cube)
    head += _text("run 1.vtc") + _text("") + _text("")
    for name in names:
        head += struct.pack("<i2f", kind, 1.65, 8.0) + _text(name) + bytes(12)
        head += struct.pack("<B", 0) + _text("<default>") + struct.pack("<f", 1.0)
        if kind == 3:
            head += struct.pack("<4i", 5, 0, 4, 0)
        head += struct.pack("<ib3ib", 50, 0, 1, 249, 0, 3)
        head += struct.pack("<2i", 45555, 1) + struct.pack("<3f", 0.05, 3.0, 4.0)
        head += struct.pack("<i", 0)
    return head + data.astype("<f4").tobytes()


def msk_bytes(data, *, start, resolution=1):
    """MSK of a mask (Z, Y, X)."""
    head = struct.pack("<h", resolution) + _box(start, _shape(data), resolution, "h")
    return head + data.astype("<u1").tobytes()


def vmr_bytes(
    data, *, offset=(0, 0, 0), cube=256, sizes=(1, 1, 1), convention=1, space=3
):
    """VMR of version 4 with data (Z, Y, X)."""
    content = struct.pack("<4H", 4, *_shape(data)) + data.astype("<u1").tobytes()
    content += struct.pack("<4h", *offset, cube)
    content += struct.pack("<2i", 1, 0) + np.zeros(12, "<f4").tobytes()
    content += struct.pack("<2i4f", 256, 256, 256, 256, 1, 0)
    content += struct.pack("<i", 1) + _text("AC-PC") + struct.pack("<i", 1)
    content += _text("native.vmr") + struct.pack("<i3f", 3, 1.0, 2.0, 3.0)
    content += struct.pack("<2B3f2B", convention, space, *sizes, 1, 1)
    return content + struct.pack("<3i", 0, 100, 1000)
