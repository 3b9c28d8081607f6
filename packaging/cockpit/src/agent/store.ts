/* The agent's state as the page shows it: kept up to date by signals, read again after the agent was away. */

import { type Access, watchAccess } from "./access";
import { Bus, Fault, type Operation, isDevice, isJob } from "./bus";
import { type Device, type Domain, type Job, deviceProperties, domainChanged } from "./reply";

/* Why the page does not follow a job to its end: the agent ended first, the user may not see it any more, or its object was removed. */
export type Lost = "agent" | "access" | "object";

/* A job; 'path' is its object. */
export interface ShownJob extends Job { path: string, lost: Lost | null }
export interface Event { key: number, time: Date, subject: string, text: string }

export interface State {
    agent: "connecting" | "here" | "away",
    /* Why the agent is away. */
    reason: string,
    /* Whether devices and domains were read. */
    isRead: boolean,
    /* The number of the connection: another one may have other rights. */
    connection: number,
    /* Whether Cockpit gives this page the rights of root; null while that is not known. */
    isAdmin: boolean | null,
    devices: Map<string, Device>,
    domains: Domain[],
    jobs: ShownJob[],
    events: Event[],
}

/* Entries that the page keeps. */
const MAX_EVENTS = 200;
const MAX_JOBS = 50;
/* One read for all signals of this time. */
const REST_MS = 150;
const RETRY_MS = [1000, 2000, 5000, 10_000];

/* There is no such job any more; the path may be that of another one. */
const isGone = (job: ShownJob): boolean => job.lost === "agent" || job.lost === "object";
/* The agent and its jobs do not change any more what is shown of this one. */
const isEnd = (job: ShownJob): boolean => isGone(job) || !["waiting", "working"].includes(job.state);

/* A job of which only its path is known yet. */
const unread = (path: string, operation: Operation, device: string, domain: string): ShownJob =>
    ({ path, operation, device, domain, owner: 0, state: "waiting", stage: "waiting", progress: 0, errorName: "", result: "", lost: null });

class Store {
    bus: Bus | null = null;
    private state: State = { agent: "connecting", reason: "", isRead: false, connection: 0, isAdmin: null, devices: new Map(), domains: [], jobs: [], events: [] };
    private readonly listeners = new Set<() => void>();
    private timer: { id: number, due: number } | null = null;
    private attempt = 0;
    private events = 0;
    /* The agent's unique name on the present connection. */
    private owner: string | null = null;
    /* The agent whose jobs are shown. */
    private followed: string | null = null;
    /* The connection ended after a read; if the next one does not get as far, the agent counts as away. */
    private isReconnecting = false;
    /* Reads that were started, the newest of those that were shown, and how many are not finished. */
    private reads = 0;
    private shownRead = 0;
    private pendingReads = 0;

    readonly subscribe = (listener: () => void): (() => void) => {
        this.listeners.add(listener);
        return () => { this.listeners.delete(listener) };
    };

    readonly get = (): State => this.state;

    /* Opens a channel; again after the user's rights changed. */
    connect(): void {
        this.bus?.close();
        const bus = new Bus();
        this.bus = bus;
        this.owner = null;
        this.set({ connection: this.state.connection + 1 });
        bus.channel.subscribe({ path_namespace: "/org/variantd1" }, (...signal) => { this.signalled(bus, signal) });
        /* The namespace above ends at a '/'; jobs are beside it. */
        bus.channel.subscribe({ path_namespace: "/org/variantd1_job" }, (path, ...signal) => {
            if (isJob(path))
                this.signalled(bus, [path, ...signal]);
        });
        bus.channel.addEventListener("owner", (_, owner) => {
            if (this.bus === bus)
                this.owned(owner);
        });
        bus.channel.addEventListener("close", (_, reason) => {
            if (this.bus === bus)
                this.closed(reason);
        });
        this.soon(0);
    }

    /* Follows administrative access in Cockpit's shell: a new connection has the new rights. */
    followAccess(): void {
        const found = ({ isAdmin }: Access): void => {
            const before = this.state.isAdmin;
            if (isAdmin === null || isAdmin === before)
                return;
            this.set({ isAdmin });
            if (before === null)
                return;
            this.note("Cockpit", `administrative access: ${isAdmin ? "on" : "off"}`);
            this.connect();
        };
        watchAccess(found);
    }

    /* Starts a job and follows it. */
    async start(operation: Operation, subject: string, options: Record<string, CockpitVariant> = {}): Promise<string> {
        const path = await this.agentBus().start(operation, subject, options);
        /* Until it is read; its signal may be handled before this reply. */
        if (!this.state.jobs.some(one => one.path === path && !isGone(one))) {
            const domain = this.state.domains.find(one => one.uuid === subject);
            this.show(unread(path, operation, domain === undefined ? subject : "", domain?.name ?? ""));
        }
        await this.readJob(path);
        return path;
    }

    async cancel(path: string): Promise<void> {
        await this.agentBus().cancel(path);
    }

    agentBus(): Bus {
        if (this.bus === null)
            throw new Fault("away", "variantd does not answer");
        return this.bus;
    }

    /* Reads everything again after a moment. */
    soon(delay = REST_MS): void {
        const due = performance.now() + delay;
        if (this.timer !== null && this.timer.due <= due)
            return;
        window.clearTimeout(this.timer?.id);
        const id = window.setTimeout(() => {
            this.timer = null;
            void this.read();
        }, delay);
        this.timer = { id, due };
    }

    private async read(): Promise<void> {
        const bus = this.bus;
        if (bus === null) {
            this.connect();
            return;
        }
        this.reads += 1;
        const read = this.reads;
        try {
            this.pendingReads += 1;
            const [devices, domains] = await Promise.all([bus.devices(), bus.domains()]).finally(() => { this.pendingReads -= 1 });
            if (this.bus !== bus || read < this.shownRead)
                return;
            const wasAway = this.state.agent === "away";
            this.shownRead = read;
            this.attempt = 0;
            this.isReconnecting = false;
            this.set({ agent: "here", reason: "", isRead: true, devices, domains });
            if (wasAway)
                this.note("variantd", "answers again");
            const jobs = await bus.jobs();
            if (this.bus !== bus)
                return;
            this.set({ jobs: this.state.jobs.map(job => isEnd(job) || jobs.includes(job.path) ? job : { ...job, lost: "object" }) });
            await Promise.all(jobs.map(path => this.readJob(path)));
        } catch (error) {
            const fault = Fault.of(error);
            /* 'closed' handles the end of the connection. */
            if (this.bus === bus && !fault.isClosed)
                this.lost(fault.message);
        }
    }

    /* The first owner is that of the agent that 'connect' reads; without one, that call starts the agent. */
    private owned(owner: string | null): void {
        const before = this.owner;
        this.owner = owner === "" ? null : owner;
        if (this.followed !== this.owner) {
            const jobs = this.state.jobs.map(job => isEnd(job) ? job : { ...job, lost: "agent" as const });
            this.set({ jobs });
            this.followed = this.owner;
        }
        if (this.owner === null && (before !== null || this.state.agent === "here"))
            this.lost("it has left the bus");
        else if (this.owner !== null && (before !== null || this.state.agent === "away"))
            this.soon();
    }

    /* The connection has ended, not the agent: Cockpit ends those with the rights of root when administrative access is turned off. */
    private closed({ message, problem }: { message?: string, problem?: string }): void {
        this.bus = null;
        if (this.state.agent !== "here" || this.isReconnecting) {
            this.lost(message ?? problem ?? "the bus closed the connection");
            return;
        }
        this.isReconnecting = true;
        this.soon();
    }

    private lost(reason: string): void {
        if (this.state.agent !== "away")
            this.note("variantd", `does not answer: ${reason}`);
        this.set({ agent: "away", reason });
        const delay = RETRY_MS[Math.min(this.attempt, RETRY_MS.length - 1)];
        this.attempt += 1;
        this.soon(delay);
    }

    private signalled(bus: Bus, [path, , member, args]: [string, string, string, unknown[]]): void {
        if (this.bus !== bus)
            return;
        /* A reply may be older than a signal that is handled before it. */
        if (this.pendingReads > 0)
            this.soon();
        try {
            if (isJob(path)) {
                void this.readJob(path);
            } else if (isDevice(path) && member === "PropertiesChanged") {
                this.changed(path, args[1]);
            } else if (member === "DomainChanged") {
                this.changedDomain(domainChanged(args));
            } else if (member === "InterfacesAdded" || member === "InterfacesRemoved") {
                this.soon();
            }
        } catch {
            /* A signal that cannot be decoded: read the whole. */
            this.soon();
        }
    }

    private changedDomain(domain: Domain): void {
        const index = this.state.domains.findIndex(one => one.uuid === domain.uuid);
        const domains = this.state.domains.filter(one => one.uuid !== domain.uuid);
        if (domain.outcome !== "foreign")
            domains.splice(index < 0 ? domains.length : index, 0, domain);
        this.set({ domains });
        this.note(domain.name, `guest: ${domain.outcome}${domain.sentence === "" ? "" : `: ${domain.sentence}`}`);
    }

    private changed(path: string, properties: unknown): void {
        const changes = deviceProperties(properties, path);
        const before = this.state.devices.get(path);
        if (before === undefined) {
            this.soon();
            return;
        }
        const devices = new Map(this.state.devices);
        devices.set(path, { ...before, ...changes });
        this.set({ devices });
        for (const key of ["state", "driver", "domain"] as const) {
            if (changes[key] !== undefined)
                this.note(before.address, `${key}: ${before[key] || "none"} \u2192 ${changes[key] || "none"}`);
        }
    }

    /* Jobs of other users are not readable, and not shown. */
    private async readJob(path: string): Promise<void> {
        const { bus, owner } = this;
        let job: Job;
        try {
            job = await this.agentBus().job(path);
            /* A reply may be handled after the signal that its sender has left the bus. */
            if (this.bus !== bus || this.owner !== owner) {
                /* On a new connection it was not known yet who sends. */
                if (this.bus === bus && owner === null)
                    await this.readJob(path);
                return;
            }
        } catch (error) {
            if (Fault.of(error).kind === "denied")
                this.set({ jobs: this.state.jobs.map(one => one.path !== path || isEnd(one) ? one : { ...one, lost: "access" }) });
            return;
        }
        const before = this.state.jobs.find(one => one.path === path);
        const shown = { ...job, path, lost: null };
        this.show(shown);
        if (isEnd(shown) && (before === undefined || !isEnd(before))) {
            const result = job.state === "failed" ? `failed: ${job.result}` : job.state;
            this.note(job.device || job.domain || "all devices", `${job.operation}: ${result}`);
        }
    }

    private show(job: ShownJob): void {
        const others = this.state.jobs.filter(one => one.path !== job.path || isGone(one));
        this.set({ jobs: [job, ...others].slice(0, MAX_JOBS) });
    }

    private note(subject: string, text: string): void {
        this.events += 1;
        const event = { key: this.events, time: new Date(), subject, text };
        this.set({ events: [event, ...this.state.events].slice(0, MAX_EVENTS) });
    }

    private set(part: Partial<State>): void {
        this.state = { ...this.state, ...part };
        this.listeners.forEach(listener => { listener() });
    }
}

export const store = new Store();
