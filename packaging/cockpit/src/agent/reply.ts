/* The replies of org.variantd1 and of 'variantctl --json', each as a type with its decoder. */

import { type Decoder, entries, flag, line, list, nullable, number, object, oneOf, text, variant } from "./decode";

const or = <T>(inner: Decoder<T>, missing: T): Decoder<T> => (value, at) => value === undefined ? missing : inner(value, at);

/* An object of org.variantd1.Device; an empty text means none, and -1 no group or node. */
export interface Device {
    address: string, domain: string, domainUuid: string, driver: string, group: number, id: string, note: string,
    numaNode: number, previousDriver: string, recipe: string, reserved: boolean, state: DeviceState,
}

export type DeviceState = "free" | "reserved" | "binding" | "bound" | "releasing" | "degraded";

const deviceState = oneOf("free", "reserved", "binding", "bound", "releasing", "degraded");

const deviceFields: { [name: string]: [keyof Device, Decoder<string | number | boolean>] } = {
    Address: ["address", line],
    Domain: ["domain", line],
    DomainUuid: ["domainUuid", line],
    Driver: ["driver", line],
    Group: ["group", number],
    Id: ["id", line],
    Note: ["note", line],
    NumaNode: ["numaNode", number],
    PreviousDriver: ["previousDriver", line],
    Recipe: ["recipe", line],
    Reserved: ["reserved", flag],
    State: ["state", deviceState],
};

/* The properties in a{sv}; all of a device, or those that changed. */
export const deviceProperties: Decoder<Partial<Device>> = (value, at) => {
    const found: { [key: string]: unknown } = {};
    for (const [name, one] of entries(value, at)) {
        const field = Object.hasOwn(deviceFields, name) ? deviceFields[name] : undefined;
        if (field !== undefined)
            found[field[0]] = variant(field[1])(one, `${at}.${name}`);
    }
    return found;
};

const isWhole = (device: Partial<Device>): device is Device =>
    Object.values(deviceFields).every(([key]) => device[key] !== undefined);

/* The devices of GetManagedObjects, by object path. */
export const managedDevices: Decoder<Map<string, Device>> = (value, at) => {
    const devices = new Map<string, Device>();
    for (const [path, interfaces] of entries(value, at)) {
        const properties = entries(interfaces, path).get("org.variantd1.Device");
        const device = properties === undefined ? {} : deviceProperties(properties, path);
        if (isWhole(device))
            devices.set(path, device);
    }
    return devices;
};

export type Outcome = "foreign" | "on-request" | "complete" | "completed" | "reverted" | "refused" | "failed";
export const outcome = oneOf<Outcome>("foreign", "on-request", "complete", "completed", "reverted", "refused", "failed");

export interface Domain { name: string, uuid: string, outcome: Outcome, sentence: string, code: string }

/* A row of ListDomains. */
export const domain: Decoder<Domain> = object<Domain>({
    name: variant(line),
    uuid: variant(line),
    outcome: variant(outcome),
    sentence: or(variant(line), ""),
    code: or(variant(line), ""),
});

/* The arguments of the signal DomainChanged. */
export const domainChanged = ([name, uuid, result, details]: unknown[]): Domain => {
    const found = entries(details, "details");
    return {
        name: line(name, "name"),
        uuid: line(uuid, "uuid"),
        outcome: outcome(result, "outcome"),
        sentence: or(variant(line), "")(found.get("sentence"), "sentence"),
        code: or(variant(line), "")(found.get("code"), "code"),
    };
};

export interface Refusal { error: string, reason: string, code: string, hint: string, command: string | null, device: string | null, path: string | null }

/* The answer that replaces a reply with the option 'refusal'. */
export const refusalOrNull: Decoder<Refusal | null> = (value, at) => {
    const found = entries(value, at).get("refusal");
    const decode = object<Refusal>({
        error: line, reason: text, code: line, hint: text, command: nullable(line), device: nullable(line), path: nullable(line),
    });
    return found === undefined ? null : decode(found, "refusal");
};

export interface Reason { line: number, code: string, device: string | null, path: string, text: string, again: boolean }
export interface Hunk { old_start: number, old_lines: number, new_start: number, new_lines: number, lines: string[], reasons: Reason[] }
export interface PlanDevice { address: string, recipe: string, label: string, driver: string, cells: string, host_nodes: number[] }
export interface Note { code: string, device: string | null, text: string }
export interface Plan { domain: string, changed: boolean, devices: PlanDevice[], notes: Note[], hunks: Hunk[] }

export const plan: Decoder<Plan> = object<Plan>({
    domain: line,
    changed: flag,
    devices: list(object<PlanDevice>({
        address: line, recipe: line, label: line, driver: line, cells: line, host_nodes: list(number),
    })),
    notes: list(object<Note>({ code: line, device: nullable(line), text })),
    hunks: list(object<Hunk>({
        old_start: number,
        old_lines: number,
        new_start: number,
        new_lines: number,
        lines: list(line),
        reasons: list(object<Reason>({ line: number, code: line, device: nullable(line), path: line, text, again: flag })),
    })),
});

/* The reply of a dry run of Bind. */
export interface DryRun { driver: string | null, module: string | null, writes: string[], against: string[] }

export const dryRun: Decoder<DryRun> = object<DryRun>({
    driver: nullable(line), module: nullable(line), writes: list(line), against: list(line),
});

export type JobState = "waiting" | "working" | "done" | "failed" | "cancelled";

export interface Job {
    operation: string, device: string, domain: string, owner: number, state: JobState, stage: string, progress: number,
    errorName: string, result: string,
}

/* All properties of org.variantd1.Job, in a{sv}. */
export const job: Decoder<Job> = (value, at) => {
    const found = entries(value, at);
    const read = <T>(name: string, inner: Decoder<T>): T => variant(inner)(found.get(name), `${at}.${name}`);
    return {
        operation: read("Operation", line),
        device: read("Device", line),
        domain: read("Domain", line),
        owner: read("Owner", number),
        state: read("State", oneOf("waiting", "working", "done", "failed", "cancelled")),
        stage: read("Stage", line),
        progress: Math.min(1, Math.max(0, read("Progress", number))),
        errorName: read("ErrorName", line),
        result: read("Result", text),
    };
};

export type Verdict = "pass" | "unknown" | "warn" | "fail";

export interface Check {
    code: string, group: string, subject: string | null, verdict: Verdict, text: string, detail: string | null,
    hint: string | null, command: string | null, read_from: string[],
}

export interface Diagnosis { summary: Record<Verdict, number>, checks: Check[], next: string }

/* 'variantctl --json doctor'. */
export const diagnosis: Decoder<Diagnosis> = object<Diagnosis>({
    summary: object<Record<Verdict, number>>({ pass: number, unknown: number, warn: number, fail: number }),
    checks: list(object<Check>({
        code: line,
        group: line,
        subject: nullable(line),
        verdict: oneOf("pass", "unknown", "warn", "fail"),
        text,
        detail: nullable(text),
        hint: nullable(text),
        command: nullable(line),
        read_from: list(line),
    })),
    next: line,
});

export interface Holder { pid: number, command: string, unit: string | null, nodes: { path: string, shared: boolean }[] }
export interface Member { address: string, class: string, driver: string | null }
export interface Occupancy { holders: Holder[], hidden_processes: number, virtual_functions: number }
export interface Shown { label: string | null, members: Member[], occupancy: Occupancy | null }

/* 'variantctl --json show DEVICE'. */
export const shown: Decoder<Shown> = (value, at) => {
    const device = entries(value, at).get("device");
    const found = object<{ label: string | null, group_members: Member[], occupancy: Occupancy | null }>({
        label: nullable(line),
        group_members: list(object<Member>({ address: line, class: line, driver: nullable(line) })),
        occupancy: nullable(object<Occupancy>({
            holders: list(object<Holder>({
                pid: number,
                command: line,
                unit: nullable(line),
                nodes: list(object<{ path: string, shared: boolean }>({ path: line, shared: flag })),
            })),
            hidden_processes: number,
            virtual_functions: number,
        })),
    })(device, "device");
    return { label: found.label, members: found.group_members, occupancy: found.occupancy };
};
