"""Writes one definition for each spelling of each value that variantd reads: spellings.py FOLDER"""
import pathlib
import sys

FOLDER = pathlib.Path(sys.argv[1])
ROOT = "<controller type='pci' model='pcie-root'/>"
CELL = "<cpu><numa><cell id='0' cpus='0-7' memory='524288'/></numa></cpu>"
CELLS = "<cpu><numa><cell id='0' cpus='0-7' memory='524288'/>" + "".join(f"<cell id='{n}' memory='0'/>" for n in range(1, 8)) + "</numa></cpu>"
SOURCE = "<source><address domain='0' bus='9' slot='1' function='0'/></source>"

NUMBERS = ["0", "1", "3", "7", "017", "010", "08", "0x1f", "0X0a", "0x", "0xg", "1f", " 3", "3 ", "+3", "-1", "-0", "- 1", "", " ", "1a", "0x 3",
           "&#9;3", "3&#10;", "255", "256", "2147483648", "4294967295", "4294967296", "18446744073709551616"]
SIZES = ["524288", " 524288", "524288 ", "+524288", "-1", "0x80000", "0524288", "", "1e6", "524288.0", "18446744073709551616"]
UNITS = ["", "b", "B", "byte", "BYTES", "k", "K", "KB", "kb", "KiB", "kIb", "m", "MB", "MiB", "g", "GB", "GiB", "t", "TB", "tib", "p", "PB", "PiB",
         "e", "EB", "EiB", "Ki", " KiB", "KiB ", "ZiB", "x"]
LISTS = ["1", "1-3", "1-3,^2", "1,", "1-2, 3", " 1", "1 ", "", "^1", "1,^1", "0x1", "3-1", "01", "16383", "16384", "1-2,^2-3", ",1", "1,,2", "1 - 2",
         "+1", "1-2,5-7,^6", "1;2", "^1,1"]
WIDTHS = ["mode='emulate'", "mode='passthrough'", "bits='42'", "mode='emulate' limit='42'"]


def domain(devices=ROOT, extra="", memory="<memory>524288</memory>", vcpu="<vcpu>8</vcpu>", os="<os><type arch='x86_64' machine='q35'>hvm</type></os>", ns=""):
    return f"<domain type='qemu'{ns}><name>probe</name>{memory}{vcpu}{os}{extra}<devices>{devices}</devices></domain>"


def hostdev(source=SOURCE, rest=""):
    return f"<hostdev mode='subsystem' type='pci' managed='yes'>{source}{rest}</hostdev>"


def write(what, number, text):
    (FOLDER / f"spelling-{what}-{number:02}.xml").write_text(text)


def each(what, values, make):
    for number, value in enumerate(values):
        write(what, number, make(value))


for field in ["domain", "bus", "slot", "function"]:
    rest = " ".join(f"{name}='1'" for name in ["domain", "bus", "slot", "function"] if name != field)
    each(f"source-{field}", NUMBERS, lambda v: domain(ROOT + hostdev(f"<source><address {rest} {field}='{v}'/></source>")))
# A guest has PCI domain 0 only, and on a root port slot 0 only.
each("guest-domain", ["0", "00", "0x0", " 0", "+0", "-0", "0 ", "", "0x", "09"], lambda v: domain(ROOT + hostdev(rest=f"<address type='pci' domain='{v}' bus='1'/>")))
each("guest-bus", [v for v in NUMBERS if v != "255"], lambda v: domain(ROOT + hostdev(rest=f"<address type='pci' bus='{v}'/>")))
each("guest-slot", [v for v in NUMBERS if v != "0x1f"], lambda v: domain(ROOT + hostdev(rest=f"<address type='pci' bus='0' slot='{v}'/>")))
each("guest-function", NUMBERS, lambda v: domain(ROOT + hostdev(rest=f"<address type='pci' bus='1' function='{v}'/>")))
each("index", [v for v in NUMBERS if v not in ["0", "-0", "255", "256"]], lambda v: domain(ROOT + f"<controller type='pci' index='{v}' model='pcie-root-port'/>"))
each("bus-number", [v for v in NUMBERS if v not in ["0", "-0", "255"]] + ["0xfe", "0376", "254"], lambda v: domain(ROOT + f"<controller type='pci' model='pcie-expander-bus'><target busNr='{v}'/></controller>"))
each("node", ["0", "00", " 0", "0x0", "0 ", "-1", "", "-0"], lambda v: domain(ROOT + f"<controller type='pci' model='pcie-expander-bus'><target busNr='200'><node>{v}</node></target></controller>", CELL))
each("nodeset", LISTS, lambda v: domain(ROOT + hostdev(rest=f"<acpi nodeset='{v}'/>"), CELLS))
each("cpus", [v for v in LISTS if v != "16383"], lambda v: domain(extra=f"<cpu><numa><cell id='0' cpus='{v}' memory='524288'/></numa></cpu>"))
each("memnode", LISTS, lambda v: domain(extra=f"<numatune><memnode cellid='0' mode='preferred' nodeset='{v}'/></numatune>" + CELL))
each("cell-id", ["0", "00", " 0", "+0", "-0", "0 ", "0x0", ""], lambda v: domain(extra=f"<cpu><numa><cell id='{v}' cpus='0-7' memory='524288'/></numa></cpu>"))
each("memnode-cell", ["0", "00", " 0", "+0", "-0", "0 ", "0x0", ""], lambda v: domain(extra=f"<numatune><memnode cellid='{v}' nodeset='0'/></numatune>" + CELL))
each("distance", ["20", " 20", "020", "0x14", "20 ", "+20", "-20", "256", ""], lambda v: domain(extra=f"<cpu><numa><cell id='0' cpus='0-7' memory='524288'><distances><sibling id='1' value='{v}'/></distances></cell><cell id='1' memory='0'/></numa></cpu>"))
each("memory", [v for v in SIZES if v], lambda v: domain(memory=f"<memory>{v}</memory>"))
each("memory-unit", UNITS, lambda v: domain(memory=f"<memory unit='{v}'>1048576</memory>" if v.lower() in ["", "b", "byte", "bytes", "k", "kb", "kib"] else f"<memory unit='{v}'>1</memory>"))
each("cell-memory", SIZES, lambda v: domain(extra=f"<cpu><numa><cell id='0' cpus='0-7' memory='{v}'/></numa></cpu>"))
each("cell-unit", UNITS, lambda v: domain(extra=f"<cpu><numa><cell id='0' cpus='0-7' memory='1048576' unit='{v}'/></numa></cpu>"))
each("window", SIZES, lambda v: domain(f"<controller type='pci' model='pcie-root'><pcihole64>{v}</pcihole64></controller>"))
each("window-unit", UNITS, lambda v: domain(f"<controller type='pci' model='pcie-root'><pcihole64 unit='{v}'>1</pcihole64></controller>"))
each("limit", SIZES + ["9007199254740991", "9007199254740992"], lambda v: domain(extra=f"<memtune><hard_limit>{v}</hard_limit></memtune>"))
each("limit-unit", UNITS, lambda v: domain(extra=f"<memtune><hard_limit unit='{v}'>1</hard_limit></memtune>"))
# not -1: libvirt 12.8 takes it for 4294967295 processors and ends
each("vcpu", ["8", " 8", "8 ", "+8", "08", "0x8", "", "8<!-- a -->", "<![CDATA[8]]>", "&#10;8"], lambda v: domain(vcpu=f"<vcpu>{v}</vcpu>"))
each("width", WIDTHS + [f"mode='emulate' bits='{v}'" for v in ["42", " 42", "042", "0x2a", "-1", "0", ""]] + [f"mode='passthrough' limit='{v}'" for v in ["40", " 40", "040", "0x28", "0", "-1"]],
     lambda v: domain(extra=f"<cpu><maxphysaddr {v}/></cpu>"))
each("smmu-bus", ["0", "00", " 0", "0x0", "-1", "0 ", ""], lambda v: domain(f"<iommu model='smmuv3'><driver pciBus='{v}'/></iommu>", "<features><acpi/></features>", os="<os firmware='efi'><type arch='aarch64' machine='virt'>hvm</type></os>"))
each("uuid", ["AAAAAAAA-2222-3333-4444-555555555555", "aaaaaaaa222233334444555555555555", " aaaaaaaa 2222 3333 4444 555555555555 ", "--aaaaaaaa-2222-3333-4444-555555555555",
              "aaaaaaaa-2222-3333-4444-55555555555-5", "aaaaaaaa-2222-3333-4444-555555555555-", "x"], lambda v: domain().replace("<memory>", f"<uuid>{v}</uuid><memory>", 1))
each("other", [
    domain("").replace("<devices></devices>", ""),
    domain().replace("</devices>", "</devices><devices>" + hostdev() + "</devices>"),
    domain(ROOT + "<e:hostdev mode='subsystem' type='pci'>" + SOURCE + "</e:hostdev>", ns=" xmlns:e='http://example.org/e'"),
    domain(ROOT + hostdev("<source><address e:bus='4' slot='1'/></source>"), ns=" xmlns:e='http://example.org/e'"),
    domain("<controller type='pci' index='1' model='pcie-root-port'/>" + ROOT + "<controller type='pci' model='pcie-root-port'/>"),
    domain(ROOT + "<controller type='pci' index='4' model='pcie-root-port'/>" + "<controller type='pci' model='pcie-root-port'/>" * 4),
    domain(ROOT + hostdev(rest="<address type='pci'/>")),
    domain(ROOT + hostdev(rest="<address type='pci' bus='0' slot='0' function='3'/>")),
    domain(memory="<memory unit='GiB'>1024</memory>", extra=CELL),
    domain(ROOT + "<memory model='dimm'><target><size unit='MiB'>256</size><node>0</node></target></memory>", CELL, memory="<maxMemory slots='4' unit='GiB'>8</maxMemory><memory unit='GiB'>4</memory>"),
    domain(extra="<cpu><numa><cell id='0' memory='524288'/><cell id='1' cpus='2-3' memory='524288'/></numa></cpu>"),
    domain(extra="<cpu><numa><cell id='1' cpus='2-3' memory='524288'/><cell id='0' cpus='0' memory='524288'/></numa></cpu>"),
    domain("", os="<os><type arch='x86_64'>hvm</type></os>"),
    domain("", os="<os><type arch='aarch64'>hvm</type></os>"),
], lambda text: text)
