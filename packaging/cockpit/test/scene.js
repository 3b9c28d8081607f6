/* A real agent and a real cockpit-bridge on a private bus, with a modelled host and libvirt's test driver; a browser for the page. */

import { spawn } from "node:child_process";
import { chmodSync, cpSync, existsSync, linkSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { once } from "node:events";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const TARGET = process.env.VARIANTD_PROGRAMS;
const HOSTS = process.env.VARIANTD_HOSTS;
const DIST = fileURLToPath(new URL("../dist", import.meta.url));
const UNPRIVILEGED = 65534;

const BUS = `<busconfig><type>system</type><listen>unix:runtime=yes</listen><auth>EXTERNAL</auth><policy context='default'><allow user='*'/>
<allow own='*'/><allow send_destination='*' eavesdrop='true'/><allow eavesdrop='true'/></policy></busconfig>`;

/* A line of a process's output that contains these words. */
const says = async (stream, words) => {
    for await (const line of createInterface({ input: stream })) {
        if (line.includes(words)) {
            stream.resume();
            return line;
        }
    }
    throw new Error(`the program ended without '${words}'`);
};

const freePort = async () => {
    const server = createServer().listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address();
    server.close();
    return port;
};

export class Scene {
    #children = [];
    #servers = [];

    /* 'guests': domains of libvirt as XML; 'isUnprivileged': another user than root looks at the page, who can have administrative access
       if 'hasSudo'; 'change': edits the copy of the host. */
    static async start({ host, guests = [], isUnprivileged = false, hasSudo = false, change = () => {} }) {
        const scene = new Scene();
        scene.programs = TARGET;
        scene.dir = mkdtempSync(join(tmpdir(), "cockpit-variantd-"));
        chmodSync(scene.dir, 0o755);
        cpSync(join(HOSTS, host), scene.path("host"), { recursive: true, verbatimSymlinks: true });
        change(scene.path("host"), scene);
        writeFileSync(scene.path("libvirt.xml"), `<node>${guests.join("")}</node>`);
        writeFileSync(scene.path("bus.conf"), BUS);
        const bus = scene.#spawn("dbus-daemon", [`--config-file=${scene.path("bus.conf")}`, "--nofork", "--print-address", `--address=unix:path=${scene.path("bus")}`]);
        scene.address = (await says(bus.stdout, "unix:")).trim();
        await scene.startAgent();
        await scene.#startCockpit(isUnprivileged, hasSudo);
        return scene;
    }

    path(name) { return join(this.dir, name); }

    async startAgent() {
        const args = ["--config", this.path("variantd.conf"), "--run-dir", this.path("run"), "--state-dir", this.path("state"),
            "--root", this.path("host"), "--connect", `test://${this.path("libvirt.xml")}`];
        this.agent = this.#spawn(join(this.programs, "variantd"), args, { DBUS_SYSTEM_BUS_ADDRESS: this.address });
        await says(this.agent.stderr, "serves");
    }

    async stopAgent(signal = "SIGTERM") {
        this.agent.kill(signal);
        if (this.agent.exitCode === null && this.agent.signalCode === null)
            await once(this.agent, "exit");
    }

    async restartAgent() {
        await this.stopAgent();
        await this.startAgent();
    }

    async #startCockpit(isUnprivileged, hasSudo) {
        const home = this.path("home");
        mkdirSync(join(home, ".local/share/cockpit"), { recursive: true });
        symlinkSync(DIST, join(home, ".local/share/cockpit/variantd"));
        mkdirSync(this.path("bin"));
        /* The real program, which reads the modelled host instead of this machine. */
        writeFileSync(this.path("bin/variantctl"), `#!/bin/sh\nexec '${join(TARGET, "variantctl")}' --host '${this.path("host")}' "$@"\n`, { mode: 0o755 });
        const port = await freePort();
        const environment = { HOME: home, XDG_DATA_HOME: join(home, ".local/share"), XDG_RUNTIME_DIR: this.path("runtime"), PATH: `${this.path("bin")}:${process.env.PATH}`, DBUS_SYSTEM_BUS_ADDRESS: this.address };
        mkdirSync(environment.XDG_RUNTIME_DIR, { mode: 0o777 });
        chmodSync(environment.XDG_RUNTIME_DIR, 0o777);
        if (hasSudo)
            await this.#startSudo({ ...process.env, ...environment });
        const ws = existsSync("/usr/lib/cockpit/cockpit-ws") ? "/usr/lib/cockpit/cockpit-ws" : "/usr/libexec/cockpit-ws";
        const other = isUnprivileged ? { uid: UNPRIVILEGED, gid: UNPRIVILEGED } : {};
        this.#spawn(ws, ["--no-tls", "--local-session=cockpit-bridge", "--address", "127.0.0.1", "--port", String(port)], environment, other);
        this.url = `http://127.0.0.1:${port}`;
        const until = Date.now() + 60_000;
        while (!await fetch(this.url).then(() => true, () => false)) {
            if (Date.now() > until)
                throw new Error("cockpit-ws does not answer");
            await new Promise(done => { setTimeout(done, 50) });
        }
    }

    /* What Cockpit calls as 'sudo': a connection to this process, which starts the bridge with the rights of root. */
    async #startSudo(env) {
        const path = this.path("sudo.socket");
        const server = createServer({ allowHalfOpen: true }, socket => {
            /* Without '--privileged', with which it expects the caller's standard error as a descriptor. */
            const bridge = this.#spawn("cockpit-bridge", [], env, { stdio: ["pipe", "pipe", "pipe"] });
            socket.pipe(bridge.stdin);
            bridge.stdout.pipe(socket);
            for (const stream of [socket, bridge.stdin])
                stream.on("error", () => bridge.kill());
        }).listen(path);
        await once(server, "listening");
        chmodSync(path, 0o777);
        this.#servers.push(server);
        const client = `const socket = require("net").connect(${JSON.stringify(path)}); process.stdin.pipe(socket); socket.pipe(process.stdout)`;
        writeFileSync(this.path("bin/sudo"), `#!/bin/sh\nexec '${process.execPath}' -e '${client}'\n`, { mode: 0o755 });
    }

    #spawn(program, args, environment = {}, options = {}) {
        const child = spawn(program, args, { env: { ...process.env, ...environment }, stdio: ["ignore", "pipe", "pipe"], ...options });
        child.log = "";
        child.stderr.on("data", data => { child.log += data });
        this.#children.push(child);
        return child;
    }

    end() {
        for (const server of this.#servers)
            server.close();
        for (const child of this.#children.reverse()) {
            child.kill("SIGKILL");
        }
        rmSync(this.dir, { recursive: true, force: true });
        if (this.programs !== TARGET)
            rmSync(this.programs, { recursive: true, force: true });
    }
}

/* 'change' for a scene: writes to a device's driver and override do what the kernel does. The agent's child process makes these
   writes, and here a script is before it. */
export const actingKernel = (host, scene) => {
    scene.programs = mkdtempSync(join(TARGET, "cockpit-"));
    for (const name of ["variantd", "variantd-libvirt"])
        linkSync(join(TARGET, name), join(scene.programs, name));
    writeFileSync(join(scene.programs, "variantd-child"), `#!/bin/sh
devices=$2/sys/bus/pci/devices
case $1:$3 in
write-attribute:unbind) rm "$devices/$5/driver" ;;
write-attribute:bind) ln -s "../../../../bus/pci/drivers/$4" "$devices/$5/driver" ;;
write-attribute:override) : >"$devices/$4/driver_override" ;;
esac
exec '${join(TARGET, "variantd-child")}' "$@"
`, { mode: 0o755 });
    for (const driver of ["nvidia", "vfio-pci"]) {
        const folder = join(host, "sys/bus/pci/drivers", driver);
        mkdirSync(folder, { recursive: true });
        for (const name of ["bind", "unbind"])
            writeFileSync(join(folder, name), "");
    }
};

/* A process of the modelled host that has a node of a device open; the result ends it. */
export const startHolder = (scene, pid, command, node) => {
    const folder = scene.path(`host/proc/${pid}`);
    mkdirSync(join(folder, "fd"), { recursive: true });
    symlinkSync(`/usr/bin/${command}`, join(folder, "exe"));
    symlinkSync(node, join(folder, "fd/7"));
    writeFileSync(join(folder, "cmdline"), `/usr/bin/${command}\0`);
    writeFileSync(join(folder, "cgroup"), `0::/system.slice/${command}.service\n`);
    return () => { rmSync(folder, { recursive: true }) };
};

/* A guest with these devices of the host. libvirt's test driver starts it, unless its run state is 5 (shut off). */
export const guest = (name, uuid, devices, { isRunning = false, arch = "aarch64" } = {}) => {
    const escaped = name.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
    const hostdevs = devices.map(device => {
        const [, domain, bus, slot, fn] = /^(\w+):(\w+):(\w+)\.(\w)$/.exec(device);
        return `<hostdev mode='subsystem' type='pci' managed='no'><source><address domain='0x${domain}' bus='0x${bus}' slot='0x${slot}' function='0x${fn}'/></source></hostdev>`;
    });
    const machine = arch === "aarch64" ? "virt" : "q35";
    return `<domain type='kvm' xmlns:test='http://libvirt.org/schemas/domain/test/1.0'><name>${escaped}</name><uuid>${uuid}</uuid><memory>8388608</memory><vcpu>8</vcpu><os><type arch='${arch}' machine='${machine}'>hvm</type></os><features><acpi/></features><devices>${hostdevs.join("")}</devices>${isRunning ? '' : '<test:runstate>5</test:runstate>'}</domain>`;
};

export const uuid = number => `6f1f0b9e-3c1e-4b3a-9a39-${String(number).padStart(12, "0")}`;
