/* 'variantctl': what needs no agent, so that it is there while the agent is away. */

import { type Decoder, json, visible } from "./decode";
import { Fault, ended } from "./bus";
import { type Diagnosis, type Shown, diagnosis, shown } from "./reply";

interface Output { text: string, exitStatus: number }

/* Runs it without a shell: an argument is never part of a command line. */
const run = (args: string[]): Promise<Output> => new Promise((resolve, reject) => {
    const process = cockpit.spawn(["variantctl", ...args], { superuser: "try", err: "message", environ: ["LC_ALL=C.UTF-8"] });
    void process.then(text => { resolve({ text, exitStatus: 0 }) });
    process.fail((error, output) => {
        if (error.problem === "not-found")
            reject(new Fault("failed", "cannot run 'variantctl': it is not installed; install the package 'variantd'"));
        else if (output !== null && output !== "")
            resolve({ text: output, exitStatus: error.exit_status ?? 1 });
        else
            reject(new Fault("failed", sentence(error)));
    });
});

/* The sentence in the JSON that a verb prints on standard error. */
const sentence = (error: CockpitError): string => {
    const message = ended(error.problem) ?? error.message ?? error.problem ?? "no answer";
    for (const line of message.split("\n").filter(one => one.startsWith("{"))) {
        try {
            const found = JSON.parse(line) as { error?: { text?: unknown } };
            if (typeof found.error?.text === "string")
                return visible(found.error.text);
        } catch {
            /* The text as it is. */
        }
    }
    return `variantctl: ${visible(message.trim())}`;
};

const decoded = async <T>(args: string[], inner: Decoder<T>): Promise<T> =>
    json(inner)((await run(["--json", ...args])).text, args[0] ?? "");

/* Exits with 1 when a check fails, and prints the checks. */
export const doctor = (): Promise<Diagnosis> => decoded(["doctor"], diagnosis);

export const show = (device: string): Promise<Shown> => decoded(["show", device], shown);

/* The topology of the host, and of a guest beside it, as SVG. */
export const drawing = async (domain: string): Promise<string> => {
    const guest = domain === "" ? [] : [`--domain=${domain}`];
    return (await run(["topology", "--svg", "-", ...guest])).text;
};
