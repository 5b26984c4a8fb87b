"""Makes a picture from what `ecadx compile -p PROMPT --out DIR` wrote, with libecad by ctypes: numpy arrays in, numpy arrays out.

    python3 picture.py DIR [picture.png [latents.f32]]      (the library is found as the system finds it: LD_LIBRARY_PATH, ldconfig)
"""
import ctypes as c
import json
import pathlib
import struct
import sys
import threading
import zlib

import numpy as np

lib = c.CDLL("libecad.so.0")


class Error(c.Structure):
    _fields_ = [("struct_size", c.c_uint32), ("code", c.c_int32), ("device_code", c.c_int32), ("op", c.c_int32), ("message", c.c_char * 496)]


class IOInfo(c.Structure):
    _fields_ = [("struct_size", c.c_uint32), ("dtype", c.c_int32), ("rank", c.c_int32), ("direction", c.c_int32), ("dims", c.c_int64 * 4),
                ("nbytes", c.c_uint64), ("name", c.c_char * 64)]


OnItem = c.CFUNCTYPE(c.c_int32, c.c_void_p, c.c_uint32, c.c_uint32)


class RunArgs(c.Structure):
    _fields_ = [("struct_size", c.c_uint32), ("flags", c.c_uint32), ("cancel", c.c_void_p), ("on_item", OnItem), ("user", c.c_void_p),
                ("times", c.c_void_p), ("times_cap", c.c_uint64), ("times_len", c.c_uint64)]


DTYPES = {1: np.float32, 5: np.int32}  # ECAD_FLOAT32, ECAD_INT32
TYPE_NAMES = {"F32": np.float32, "I32": np.int32}
lib.ecad_cancel_create.restype = c.c_void_p
lib.ecad_cancel_trigger.argtypes = [c.c_void_p]


def call(name, *args):
    """Calls ecad_<name>(..., &err) and raises what it reports."""
    err = Error(c.sizeof(Error))
    if getattr(lib, "ecad_" + name)(*args, c.byref(err)) != 0:
        raise RuntimeError(f"ecad_{name}: {err.message.decode()}")


def make(name, *args):
    """A new object of ecad_<name>(..., &object, &err)."""
    handle = c.c_void_p()
    call(name, *args, c.byref(handle))
    return handle


def ios(program):
    """The program's inputs and outputs by name."""
    found, info = {}, IOInfo(c.sizeof(IOInfo))
    while lib.ecad_program_io(program, len(found), c.byref(info), None) == 0:
        found[info.name.decode()] = (DTYPES[info.dtype], tuple(info.dims[:info.rank]), info.direction)
    return found


def write(state, name, array):
    array = np.ascontiguousarray(array)
    call("state_write", state, name.encode(), c.c_void_p(array.ctypes.data), c.c_uint64(array.nbytes))


def read(state, program, name):
    dtype, shape, _ = ios(program)[name]
    array = np.empty(shape, dtype)
    call("state_read", state, name.encode(), c.c_void_p(array.ctypes.data), c.c_uint64(array.nbytes))
    return array


def safetensors(path):
    data = path.read_bytes()
    size = struct.unpack_from("<Q", data)[0]
    header = json.loads(data[8:8 + size])
    return {name: np.frombuffer(data[8 + size + t["data_offsets"][0]:8 + size + t["data_offsets"][1]], TYPE_NAMES[t["dtype"]]).reshape(t["shape"])
            for name, t in header.items() if name != "__metadata__"}


def run(state, program):
    """Runs schedule 0 on a thread, so that Ctrl-C reaches Python, which cancels."""
    cancel, failed = lib.ecad_cancel_create(), []

    @OnItem
    def progress(_, done, of):
        print(f"\rstep {done - 1} of {of - 1}", end="", file=sys.stderr, flush=True)
        return 0

    def work():
        try:
            args = RunArgs(c.sizeof(RunArgs), 0, cancel, progress)
            call("run_schedule", state, program, c.c_uint32(0), c.byref(args))
        except RuntimeError as e:
            failed.append(e)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        worker.join()
    except KeyboardInterrupt:
        lib.ecad_cancel_trigger(cancel)
        worker.join()
    print(file=sys.stderr)
    lib.ecad_cancel_release(c.c_void_p(cancel))
    if failed:
        raise failed[0]


def png(picture):
    """PNG of uint8 [height, width, 3]."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    rows = b"".join(b"\0" + row.tobytes() for row in picture)
    header = struct.pack(">IIBBBBB", picture.shape[1], picture.shape[0], 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def main(folder, picture="picture.png", latents_file=None):
    folder = pathlib.Path(folder)
    device = make("device_open", None)
    weights = make("weights_open", device, str(folder / "weights.safetensors").encode())
    denoise = make("program_open", device, weights, str(folder / "denoise.ecadprog").encode())
    decode = make("program_open", device, weights, str(folder / "decoder.ecadprog").encode())

    state = make("state_create", denoise)
    inputs = safetensors(folder / "inputs.safetensors")
    for name, (_, _, direction) in ios(denoise).items():
        if direction & 1:
            write(state, name, inputs[name])
    run(state, denoise)
    latents = read(state, denoise, "latents")
    if latents_file:
        latents.tofile(latents_file)

    decoder = make("state_create", decode)
    write(decoder, "latents", latents)
    call("run_schedule", decoder, decode, c.c_uint32(0), None)
    image = read(decoder, decode, "image")[0]
    pixels = np.rint(np.clip(image / 2 + np.float32(0.5), 0, 1) * np.float32(255)).astype(np.uint8)
    pathlib.Path(picture).write_bytes(png(pixels))
    print(f"{picture}: {pixels.shape[1]} x {pixels.shape[0]}, latents from {latents.min():.3f} to {latents.max():.3f}")

    for kind, handle in [("state", decoder), ("state", state), ("program", decode), ("program", denoise), ("weights", weights), ("device", device)]:
        getattr(lib, f"ecad_{kind}_release")(handle)


if __name__ == "__main__":
    if not 2 <= len(sys.argv) <= 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
