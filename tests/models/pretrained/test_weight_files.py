import io
import os
import pathlib
import pickle
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from rsjax.errors import WeightsError
from rsjax.models.pretrained.read import Weights, read


def need_torch():
    return pytest.importorskip("torch", reason="torch is not installed: pip install torch")


def assert_equal(found, wanted):
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert found[name].dtype == value.dtype, name
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def test_what_torch_saves_is_read_without_torch(tmp_path):
    torch = need_torch()
    torch.manual_seed(0)
    base = torch.randn(4, 6)
    state = {
        "plain": base,
        "turned": base.t(),  # strides
        "part": base[1:3, 2:5],  # an offset into a shared storage
        "last": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
        "half": torch.randn(3).half(),
        "double": torch.randn(3, dtype=torch.float64),
        "number": torch.tensor(7),
        "flags": torch.tensor([True, False]),
        "empty": torch.zeros(0, 3),
        "bytes": torch.arange(5, dtype=torch.uint8),
        "parameter": torch.nn.Parameter(torch.randn(2, 2)),
    }
    torch.save(state, tmp_path / "a.pth")
    found = read(tmp_path / "a.pth").arrays
    assert_equal(found, {k: v.detach().numpy() for k, v in state.items()})
    torch.save({"low": base.bfloat16()}, tmp_path / "b.pt")
    assert_equal(read(tmp_path / "b.pt").arrays, {"low": base.bfloat16().float().numpy()})


def test_a_whole_module_s_state_dict_with_its_metadata(tmp_path):
    torch = need_torch()
    module = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.BatchNorm2d(3))
    state = module.state_dict()  # an OrderedDict with the attribute _metadata
    torch.save(state, tmp_path / "a.pth")
    assert_equal(read(tmp_path / "a.pth").arrays, {k: v.numpy() for k, v in state.items()})


def test_nested_state_dicts_and_prefixes_are_found_and_told(tmp_path):
    torch = need_torch()
    inner = {"conv1.weight": torch.ones(2, 3), "fc.bias": torch.zeros(2)}
    wrapped = {f"module.backbone.{k}": v for k, v in inner.items()}
    torch.save({"epoch": 3, "state_dict": wrapped, "optimizer": {"lr": 0.1}}, tmp_path / "a.pth")
    found = read(tmp_path / "a.pth")
    assert found == Weights("torch", found.arrays, "module.backbone.", ("epoch", "optimizer"))
    assert_equal(found.arrays, {k: v.numpy() for k, v in inner.items()})
    # Not all names have it: kept, unless it is asked for.
    torch.save({**wrapped, "module.loss.weight": torch.ones(1)}, tmp_path / "b.pth")
    found = read(tmp_path / "b.pth")
    assert found.prefix == "module."
    assert "backbone.fc.bias" in found.arrays
    found = read(tmp_path / "b.pth", "module.backbone.")
    assert set(found.arrays) == set(inner)
    assert found.left_out == ("module.loss.weight",)
    with pytest.raises(WeightsError, match=r"no entry begins with 'student\.'.*module\.backbone"):
        read(tmp_path / "b.pth", "student.")


class Evil:
    def __init__(self, reduced):
        self.reduced = reduced

    def __reduce__(self):
        return self.reduced


def zip_of(path, content, *, stored=True, name="archive/data.pkl"):
    with zipfile.ZipFile(path, "w") as archive:
        how = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
        archive.writestr(name, content, how)
    return path


def test_a_pickle_that_would_run_something_is_refused_by_name_and_runs_nothing(tmp_path):
    mark = tmp_path / "ran"
    touch = f"touch {mark}"
    reduced = {
        r"(posix|nt)\.system": Evil((os.system, (touch,))),
        r"builtins\.eval": Evil((eval, (f"open({str(mark)!r}, 'w')",))),
        r"builtins\.getattr": Evil((getattr, ("", "upper"))),
        r"builtins\.(object|exec)": Evil((exec, (f"open({str(mark)!r}, 'w')",))),
        r"numpy": np.zeros(3),
        r"os\.system": b"(cos\nsystem\nS'" + touch.encode() + b"'\no.",  # OBJ
        r"posix\.system": b"(S'" + touch.encode() + b"'\niposix\nsystem\n.",  # INST
        r"torch\.load": b"ctorch\nload\n(S'x'\ntR.",
        r"torch\._utils\.__builtins__": b"ctorch._utils\n__builtins__\n.",
        r"collections\.OrderedDict\.__init__": b"\x80\x04\x8c\x0bcollections\x8c\x14"
        b"OrderedDict.__init__\x93.",
    }
    for number, (match, content) in enumerate(reduced.items()):
        if not isinstance(content, bytes):
            content = pickle.dumps({"weight": content})
        path = zip_of(tmp_path / f"{number}.pth", content)
        with pytest.raises(WeightsError, match=match + r".*nothing was executed.*Save it anew"):
            read(path)
    assert not mark.exists()


def test_a_pickle_cannot_change_what_reads_it(tmp_path):
    def attempt(name, content):
        with pytest.raises(WeightsError):
            read(zip_of(tmp_path / f"{name}.pth", content))

    rebuild = b"ctorch._utils\n_rebuild_tensor_v2\n"
    attempt("dict", rebuild + b"}S'__defaults__'\n)sb.")  # BUILD with a dictionary
    attempt("slots", rebuild + b"(N}S'called'\nNstb.")  # BUILD with slots
    attempt("called", b"ctorch\nFloatStorage\n(tR.")
    attempt("storage", b"(S'other'\ntQ.")
    attempt("deep", b"(" * 100_000 + b"N" + b"t" * 100_000 + b".")
    attempt("text", pickle.dumps("weights"))
    attempt("list", pickle.dumps([1, 2]))
    attempt("mixed", pickle.dumps({"a": 1}))
    torch = need_torch()
    torch.save({"a": torch.ones(3)}, tmp_path / "good.pth")
    assert_equal(read(tmp_path / "good.pth").arrays, {"a": np.ones(3, np.float32)})


def test_tensors_outside_their_storage_and_bombs_are_refused(tmp_path):
    def tensor(offset, size, strides):
        body = (
            b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((S'storage'\nctorch\nFloatStorage\n"
            b"S'0'\nS'cpu'\nK\x04tQ"
        )
        body += f"I{offset}\n".encode()
        for numbers in (size, strides):
            body += b"(" + b"".join(f"I{n}\n".encode() for n in numbers) + b"t"
        path = tmp_path / "t.pth"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a/data.pkl", b"(dS'w'\n" + body + b"I00\nNtRs.")
            archive.writestr("a/data/0", np.arange(4, dtype=np.float32).tobytes())
        return path

    assert read(tensor(1, (3,), (1,))).arrays["w"].tolist() == [1, 2, 3]
    for case in [(2, (3,), (1,)), (0, (2, 2), (3, 1)), (0, (2,), (-1,)), (-1, (2,), (1,)),
                 (0, (2, 2), (1,)), (0, (10**9,), (0,)), (0, (2**62, 4), (0, 1))]:  # fmt: skip
        with pytest.raises(WeightsError, match="outside its storage"):
            read(tensor(*case))
    with pytest.raises(WeightsError, match="compressed"):
        read(zip_of(tmp_path / "bomb.pth", b"N" * 10**6, stored=False))
    with pytest.raises(WeightsError, match=r"without the data\.pkl"):
        read(zip_of(tmp_path / "other.pth", b"", name="readme"))


def test_small_files_cannot_take_much_memory(tmp_path):
    """The allocations that a file of a few hundred bytes asks for, in a process with a limit."""
    wanted = {
        "memo": b"Nr\xff\xff\xff\x1f.",  # LONG_BINPUT of entry 2 ** 29
        "array": b"\x80\x05\x96" + (2**36).to_bytes(8, "little") + b".",  # BYTEARRAY8
        # A tuple of twenty times itself, forty deep, where a storage is named.
        "named": b"(N" + b"2" * 20 + b"t" + b"q\x01(" + b"h\x01" * 20 + b"t" * 1 + (
            b"q\x01(" + b"h\x01" * 20 + b"t") * 40 + b"(h\x01ctorch\nFloatStorage\nNNNtQ.",
    }  # fmt: skip
    for name, content in wanted.items():
        zip_of(tmp_path / f"{name}.pth", content)
    code = """
import pathlib, resource, sys
import numpy as np
from rsjax.errors import WeightsError
from rsjax.models.pretrained.torch_file import read
size = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + 2**29,) * 2)
for path in sys.argv[1:]:
    try:
        print(read(pathlib.Path(path)))
    except WeightsError as error:
        print(error)
"""
    if not pathlib.Path("/proc/self/statm").is_file():
        pytest.skip("the memory of a process is limited as on Linux")
    paths = [str(tmp_path / f"{name}.pth") for name in wanted]
    done = subprocess.run(
        [sys.executable, "-c", code, *paths], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    memo, array, named = done.stdout.splitlines()
    assert memo == "None"  # sound, but for its number
    assert "asks for a buffer" in array
    assert "no storage" in named
    big = zip_of(tmp_path / "big.pth", b"N0" * 2**23 + b"N.")
    with pytest.raises(WeightsError, match="pickle is larger than"):
        read(big)


def test_tensors_that_share_a_storage_are_limited(tmp_path):
    torch = need_torch()
    base = torch.arange(10_000.0)
    path = tmp_path / "a.pth"
    torch.save({"a": base, "b": base, "half": base[:500]}, path)
    assert_equal(read(path).arrays, {"a": base.numpy(), "b": base.numpy(),
                                     "half": base[:500].numpy()})  # fmt: skip
    for state in ({f"{i}": base[i:] for i in range(100)}, {f"{i}": base for i in range(100)}):
        torch.save(state, path)
        with pytest.raises(WeightsError, match=r"a\.pth: its tensors are more than 8 times as"):
            read(path)


def test_damaged_torch_files_are_refused_or_give_the_same_numbers(tmp_path):
    torch = need_torch()
    path = tmp_path / "a.pth"
    torch.save({"w": torch.arange(3.0), "b": torch.ones(1)}, path)
    content, wanted = path.read_bytes(), read(path).arrays
    refused = 0
    for index in range(0, len(content), 5):
        broken = bytearray(content)
        broken[index] ^= 1 << index % 8
        path.write_bytes(broken)
        try:
            assert_equal(read(path).arrays, wanted)
        except WeightsError as error:
            refused += str(path) in str(error)
    assert refused > len(content) / 20  # the rest is padding and fields that nobody reads
    for length in range(0, len(content), 23):
        path.write_bytes(content[:length])
        with pytest.raises(WeightsError, match=r"a\.pth"):
            read(path)


def test_other_formats_say_what_to_do(tmp_path):
    torch = need_torch()
    torch.save({"a": torch.ones(2)}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    with pytest.raises(WeightsError, match=r"no zip file.*since torch 1\.6.*state_dict"):
        read(tmp_path / "old.pth")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pth")
    with pytest.raises(WeightsError, match=r"torch\.nn\.modules\.linear\.Linear.*state_dict"):
        read(tmp_path / "module.pth")
    (tmp_path / "a.bin2").write_bytes(b"")
    with pytest.raises(WeightsError, match=r"known: \.safetensors, \.pth"):
        read(tmp_path / "a.bin2")
    with pytest.raises(WeightsError, match="no such file"):
        read(tmp_path / "nothing.pth")


def test_safetensors_of_every_type(tmp_path):
    from safetensors.numpy import save_file

    rng = np.random.default_rng(0)
    arrays = {
        "a": rng.normal(size=(2, 3)).astype(np.float32),
        "b": rng.normal(size=4).astype(np.float16),
        "c": np.asarray(5),
        "d": np.asarray([True, False]),
    }
    save_file(arrays, tmp_path / "a.safetensors", {"format": "pt"})
    assert_equal(read(tmp_path / "a.safetensors").arrays, arrays)
    content = (tmp_path / "a.safetensors").read_bytes()
    for length in (0, 4, 30, len(content) - 1):
        (tmp_path / "b.safetensors").write_bytes(content[:length])
        with pytest.raises(WeightsError, match=r"b\.safetensors"):
            read(tmp_path / "b.safetensors")
    torch = need_torch()
    from safetensors.torch import save_file as save_torch

    low = torch.randn(3, 2).bfloat16()
    save_torch({"low": low}, tmp_path / "c.safetensors")
    assert_equal(read(tmp_path / "c.safetensors").arrays, {"low": low.float().numpy()})


def legacy_h5(path, layers, group=""):
    """The layout in which keras.applications publishes, its lists of names cut into parts."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        root = file.create_group(group) if group else file
        names = [name.encode() for name in layers]
        root.attrs["layer_names0"], root.attrs["layer_names1"] = names[:1], names[1:]
        for layer, variables in layers.items():
            part = root.create_group(layer)
            part.attrs["weight_names"] = [f"{layer}_{n}:0".encode() for n in variables]
            for name, value in variables.items():
                part[f"{layer}_{name}:0"] = value


def test_keras_files_old_and_new(tmp_path):
    parts = ("gamma", "beta", "mean", "std")
    layers = {
        "z_conv": {"W_1": np.ones((3, 3, 1, 2)), "b_1": np.zeros(2)},
        "pool": {},
        "a_bn": {name: np.full(2, i) for i, name in enumerate(parts)},
    }
    wanted = {"z_conv/0": np.ones((3, 3, 1, 2)), "z_conv/1": np.zeros(2)}
    wanted |= {f"a_bn/{i}": np.full(2, i) for i in range(4)}
    for group in ("", "model_weights"):
        legacy_h5(tmp_path / "a.h5", layers, group)
        found = read(tmp_path / "a.h5")
        assert found.framework == "keras"
        assert_equal(found.arrays, wanted)
    content = (tmp_path / "a.h5").read_bytes()
    (tmp_path / "b.h5").write_bytes(content[: len(content) // 2])
    with pytest.raises(WeightsError, match=r"b\.h5: damaged or not of Keras"):
        read(tmp_path / "b.h5")


def test_what_keras_itself_writes(tmp_path):
    import warnings

    pytest.importorskip("h5py")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        keras = pytest.importorskip("keras")
        kl = keras.layers
        x = inputs = keras.Input((8, 8, 2))
        for index in range(12):  # more than ten of a kind: '10' sorts before '2'
            x = kl.Conv2D(2, 1, name=f"part{index}_conv")(x)
        x = kl.BatchNormalization(scale=False, name="norm")(kl.ReLU()(x))
        x = kl.SeparableConv2D(3, 3, use_bias=False)(kl.ZeroPadding2D(1)(x))
        model = keras.Model(inputs, kl.Dense(2, name="top")(kl.GlobalAveragePooling2D()(x)))
        rng = np.random.default_rng(0)
        model.set_weights([rng.normal(size=w.shape).astype("f4") for w in model.get_weights()])
        wanted = {
            f"{layer.name}/{i}": np.asarray(v)
            for layer in model.layers
            for i, v in enumerate(layer.get_weights())
        }
        model.save_weights(tmp_path / "a.weights.h5")
        model.save(tmp_path / "a.keras")
        model.save(tmp_path / "a.h5")
    for name in ("a.weights.h5", "a.keras", "a.h5"):
        assert_equal(read(tmp_path / name).arrays, wanted)
    # A .keras of before the layers' names were in the weights, too: the config has them.
    import h5py

    with zipfile.ZipFile(tmp_path / "a.keras") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    nameless = io.BytesIO(parts["model.weights.h5"])
    with h5py.File(nameless, "a") as file:
        for group in file["layers"].values():
            group["vars"].attrs.pop("name", None)
    parts["model.weights.h5"] = nameless.getvalue()
    with zipfile.ZipFile(tmp_path / "b.keras", "w") as archive:
        for name, part in parts.items():
            archive.writestr(name, part)
    assert_equal(read(tmp_path / "b.keras").arrays, wanted)
    (tmp_path / "b.weights.h5").write_bytes(parts["model.weights.h5"])
    with pytest.raises(WeightsError, match=r"no names.*\.keras"):
        read(tmp_path / "b.weights.h5")


def test_keras_files_refer_to_nothing_else_and_cannot_take_much_memory(tmp_path):
    h5py = pytest.importorskip("h5py")
    np.full(4, 7, np.float32).tofile(tmp_path / "secret.bin")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = np.full(4, 7, np.float32)

    def external(group):
        where = [(str(tmp_path / "secret.bin"), 0, 16)]
        group.create_dataset("0", (4,), "f4", external=where)

    def virtual(group):
        layout = h5py.VirtualLayout((4,), "f4")
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "x", (4,))
        group.create_virtual_dataset("0", layout)

    def linked(group):
        group["0"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "x")

    def soft(group):
        group.file["secret"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "x")
        group["0"] = h5py.SoftLink("/secret")

    def unwritten(group):  # 4 TB of fill values
        group.create_dataset("0", (2**40,), "f4")

    def deflated(group):
        group.create_dataset("0", data=np.zeros(10**6, "f4"), compression="gzip")

    def text(group):
        group["0"] = ["a", "b"]

    makers = {
        external: "lies in another file", virtual: "lies in another file", linked: "is a link",
        soft: "is a link", unwritten: "4398046511104 bytes", deflated: "4000000 bytes",
        text: "holds no numbers",
    }  # fmt: skip
    for maker, match in makers.items():
        path = tmp_path / f"{maker.__name__}.weights.h5"
        with h5py.File(path, "w") as file:
            group = file.create_group("layers/dense/vars")
            group.attrs["name"] = "dense"
            maker(group)
        with pytest.raises(WeightsError, match=rf"{path.name}: .*{match}"):
            read(path)
    for layer, match in (("entry", "is a link"), ("none", "or missing")):
        with h5py.File(tmp_path / "old.h5", "w") as file:
            file.attrs["layer_names"] = [layer.encode()]
            file["entry"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/")
        with pytest.raises(WeightsError, match=match):
            read(tmp_path / "old.h5")
    path = tmp_path / "a.keras"
    for config, weights, match in (
        (b'{"config": {"layers": []}}', b"\0" * 10**6, "h5 has 1000000 bytes"),
        (b"[]", b"", "TypeError"), (b'{"config": 1}', b"", "damaged"),
        (b"[" * 10**5, b"", "damaged|bytes"),
    ):  # fmt: skip
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("config.json", config)
            archive.writestr("model.weights.h5", weights)
        with pytest.raises(WeightsError, match=rf"a\.keras: .*({match})"):
            read(path)
