/* A typed client of org.variantd1. Each call returns a decoded reply or throws a Fault. */

import { type Decoder, entries, json, line, list, visible } from "./decode";
import * as reply from "./reply";

const SERVICE = "org.variantd1";
const ROOT = "/org/variantd1";
const JOBS = "/org/variantd1_job";
const PROPERTIES = "org.freedesktop.DBus.Properties";

export type FaultKind = "refused" | "denied" | "away" | "not-found" | "no-object" | "failed";

/* A call that failed: one sentence for people. */
export class Fault extends Error {
    readonly kind: FaultKind;
    readonly refusal: reply.Refusal | null;
    /* The connection ended before the reply. */
    readonly isClosed: boolean;
    /* No reply came, and none will: the agent may have done what was asked. */
    readonly isUnanswered: boolean;

    constructor(kind: FaultKind, message: string, refusal: reply.Refusal | null = null, isClosed = false, isUnanswered = isClosed) {
        super(visible(message).slice(0, 2000));
        this.name = "Fault";
        this.kind = kind;
        this.refusal = refusal;
        this.isClosed = isClosed;
        this.isUnanswered = isUnanswered;
    }

    /* Of any thrown value: an error of the bus, of a channel, or of a decoder. */
    static of(error: unknown): Fault {
        if (error instanceof Fault)
            return error;
        const { name, message, problem } = error as CockpitError;
        const sentence = ended(problem) ?? message ?? problem ?? String(error);
        const isClosed = (name ?? "") === "" && (problem ?? "") !== "";
        const isUnanswered = isClosed || name === "org.freedesktop.DBus.Error.NoReply";
        return new Fault(kindOf(name ?? "", problem ?? ""), sentence === "" ? "the call failed" : sentence, null, isClosed, isUnanswered);
    }
}

/* Cockpit ends what has the rights of root when administrative access is turned off, and calls it the end of the session. */
export const ended = (problem: string | null | undefined): string | null =>
    problem === "terminated" ? "interrupted: administrative access was turned off" : null;

const kindOf = (name: string, problem: string): FaultKind => {
    if (name.startsWith("org.variantd1.Error.Refused"))
        return "refused";
    if (name.startsWith("org.variantd1.Error.NotAuthorized") || name === "org.freedesktop.DBus.Error.AccessDenied" || problem === "access-denied")
        return "denied";
    if (name.startsWith("org.variantd1.Error.NotFound"))
        return "not-found";
    if (name === "org.freedesktop.DBus.Error.UnknownObject")
        return "no-object";
    if (name.startsWith("org.variantd1.Error.") || name === "DecodeError")
        return "failed";
    return name.startsWith("org.freedesktop.DBus.Error.") || problem !== "" ? "away" : "failed";
};

export type Operation = "prepare" | "revert" | "bind" | "release" | "recover";
type Options = Record<string, CockpitVariant>;

export interface BindChoice { allowGroup: boolean, stopServices: boolean }

export const bindOptions = (choice: BindChoice): Options => ({
    ...choice.allowGroup && { "allow-group": cockpit.variant("b", true) },
    ...choice.stopServices && { "stop-services": cockpit.variant("b", true) },
});

/* A plan as it was shown, and its text, which 'prepare' takes back. */
export interface SavedPlan { plan: reply.Plan, text: string }

export class Bus {
    readonly channel: CockpitDBus;

    constructor() {
        this.channel = cockpit.dbus(SERVICE, { bus: "system", superuser: "try" });
    }

    async devices(): Promise<Map<string, reply.Device>> {
        const found = await this.call(ROOT, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects", [], "");
        return reply.managedDevices(found[0], "");
    }

    async domains(): Promise<reply.Domain[]> {
        const found = await this.manager("ListDomains", [{}], "a{sv}");
        return list(reply.domain)(found[0], "");
    }

    async plan(domain: string): Promise<SavedPlan> {
        const found = await this.manager("Plan", [domain, { refusal: cockpit.variant("b", true) }], "sa{sv}");
        return { plan: withoutRefusal(reply.plan)(found[0]), text: String(found[0]) };
    }

    /* What a bind would write, and what is against it; changes nothing. */
    async dryRun(device: string, choice: BindChoice): Promise<reply.DryRun> {
        const options = { "dry-run": cockpit.variant("b", true), refusal: cockpit.variant("b", true), ...bindOptions(choice) };
        const found = await this.manager("Bind", [device, options], "sa{sv}");
        return withoutRefusal(reply.dryRun)(found[0]);
    }

    async reserve(device: string, isReserved: boolean): Promise<void> {
        const options = { refusal: cockpit.variant("b", true) };
        const found = await this.manager(isReserved ? "Reserve" : "Unreserve", [device, options], "sa{sv}");
        withoutRefusal(() => null)(found[0]);
    }

    /* Starts a job and returns its object path. */
    async start(operation: Operation, subject: string, options: Options): Promise<string> {
        const found = await this.manager("StartJob", [operation, subject, options], "ssa{sv}");
        return line(found[0], "job");
    }

    async job(path: string): Promise<reply.Job> {
        const found = await this.call(path, PROPERTIES, "GetAll", ["org.variantd1.Job"], "s");
        /* The reply leaves out what the caller may not read. */
        if (entries(found[0], "job").size === 0)
            throw new Fault("denied", "only root and the user who started this job may see it");
        return reply.job(found[0], "job");
    }

    async cancel(path: string): Promise<void> {
        await this.call(path, "org.variantd1.Job", "Cancel", [{}], "a{sv}");
    }

    /* The object paths of all jobs, also of those of other users. Without jobs their parent does not exist. */
    async jobs(): Promise<string[]> {
        const found = await this.call(JOBS, "org.freedesktop.DBus.Introspectable", "Introspect", [], "")
            .catch((error: unknown) => {
                if (Fault.of(error).kind === "no-object")
                    return [];
                throw error;
            });
        if (found.length === 0)
            return [];
        const parsed = new DOMParser().parseFromString(String(found[0]), "application/xml");
        const names = [...parsed.querySelectorAll("node > node")].map(node => node.getAttribute("name") ?? "");
        return names.filter(name => /^[0-9]{1,10}$/.test(name)).map(name => `${JOBS}/${name}`);
    }

    close(): void {
        this.channel.close();
    }

    private manager(method: string, args: unknown[], type: string): Promise<unknown[]> {
        return this.call(ROOT, "org.variantd1.Manager", method, args, type);
    }

    private async call(path: string, iface: string, method: string, args: unknown[], type: string): Promise<unknown[]> {
        try {
            /* 'i': polkit may ask the user, through Cockpit's own agent. */
            return await this.channel.call(path, iface, method, args, { type, flags: "i" });
        } catch (error) {
            throw Fault.of(error);
        }
    }
}

export const isJob = (path: string): boolean => path.startsWith(`${JOBS}/`);
export const isDevice = (path: string): boolean => path.startsWith(`${ROOT}/device/`);

/* The reply of a method with the option 'refusal', as JSON. */
const withoutRefusal = <T>(inner: Decoder<T>) => (value: unknown): T => {
    const refusal = json(reply.refusalOrNull)(value, "");
    if (refusal !== null)
        throw new Fault(kindOf(`org.variantd1.Error.${refusal.error}`, ""), `${refusal.reason} (${refusal.code})`, refusal);
    return json(inner)(value, "");
};
