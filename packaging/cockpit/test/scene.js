/* A real agent and a real cockpit-bridge on a private bus, with a modelled host and libvirt's test driver; a browser for the page. */

import { spawn, spawnSync } from "node:child_process";
import { chmodSync, cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { once } from "node:events";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";

const TARGET = process.env.VARIANTD_PROGRAMS;
const HOSTS = process.env.VARIANTD_HOSTS;
const ROOT = resolve(import.meta.dirname ?? ".", "..");
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

    /* 'guests': domains of libvirt as XML; 'isUnprivileged': another user than root looks at the page; 'change': edits the copy of the host. */
    static async start({ host, guests = [], isUnprivileged = false, change = () => {} }) {
        const scene = new Scene();
        scene.dir = mkdtempSync(join(tmpdir(), "cockpit-variantd-"));
        chmodSync(scene.dir, 0o755);
        cpSync(join(HOSTS, host), scene.path("host"), { recursive: true, verbatimSymlinks: true });
        change(scene.path("host"), scene);
        writeFileSync(scene.path("libvirt.xml"), `<node>${guests.join("")}</node>`);
        writeFileSync(scene.path("bus.conf"), BUS);
        const bus = scene.#spawn("dbus-daemon", [`--config-file=${scene.path("bus.conf")}`, "--nofork", "--print-address", `--address=unix:path=${scene.path("bus")}`]);
        scene.address = (await says(bus.stdout, "unix:")).trim();
        await scene.startAgent();
        await scene.#startCockpit(isUnprivileged);
        return scene;
    }

    path(name) { return join(this.dir, name); }

    async startAgent() {
        const args = ["--config", this.path("variantd.conf"), "--run-dir", this.path("run"), "--state-dir", this.path("state"),
            "--root", this.path("host"), "--connect", `test://${this.path("libvirt.xml")}`];
        this.agent = this.#spawn(join(TARGET, "variantd"), args, { DBUS_SYSTEM_BUS_ADDRESS: this.address });
        await says(this.agent.stderr, "serves");
    }

    async stopAgent(signal = "SIGTERM") {
        this.agent.kill(signal);
        if (this.agent.exitCode === null && this.agent.signalCode === null)
            await once(this.agent, "exit");
    }

    async #startCockpit(isUnprivileged) {
        const home = this.path("home");
        mkdirSync(join(home, ".local/share/cockpit"), { recursive: true });
        symlinkSync(join(ROOT, "dist"), join(home, ".local/share/cockpit/variantd"));
        mkdirSync(this.path("bin"));
        /* The real program, which reads the modelled host instead of this machine. */
        writeFileSync(this.path("bin/variantctl"), `#!/bin/sh\nexec '${join(TARGET, "variantctl")}' --host '${this.path("host")}' "$@"\n`, { mode: 0o755 });
        const port = await freePort();
        const environment = { HOME: home, XDG_DATA_HOME: join(home, ".local/share"), XDG_RUNTIME_DIR: this.path("runtime"), PATH: `${this.path("bin")}:${process.env.PATH}`, DBUS_SYSTEM_BUS_ADDRESS: this.address };
        mkdirSync(environment.XDG_RUNTIME_DIR, { mode: 0o777 });
        chmodSync(environment.XDG_RUNTIME_DIR, 0o777);
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

    #spawn(program, args, environment = {}, options = {}) {
        const child = spawn(program, args, { env: { ...process.env, ...environment }, stdio: ["ignore", "pipe", "pipe"], ...options });
        child.log = "";
        child.stderr.on("data", data => { child.log += data });
        this.#children.push(child);
        return child;
    }

    end() {
        for (const child of this.#children.reverse())
            child.kill("SIGKILL");
        rmSync(this.dir, { recursive: true, force: true });
    }
}

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
