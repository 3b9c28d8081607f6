/* Decoders: a value from outside becomes a typed value, or an error that names the place in it. */

export type Decoder<T> = (value: unknown, at: string) => T;

/* The reply is not what org.variantd1(5) or the schema of variantctl has. */
export class DecodeError extends Error {
    constructor(at: string, expected: string) {
        super(`unexpected answer: '${at}' is not ${expected}; are the page and variantd of the same version?`);
        this.name = "DecodeError";
    }
}

/* More items than a host or a guest can have. */
const MAX_ITEMS = 100_000;
const MAX_TEXT = 16 << 20;

/* Control characters, and characters that change the direction or position of the text around them. */
const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/gu;

/* Text for people: hidden characters are replaced by a visible one. */
export const visible = (text: string): string => text.replace(HIDDEN, "\ufffd");

export const text: Decoder<string> = (value, at) => {
    if (typeof value !== "string" || value.length > MAX_TEXT)
        throw new DecodeError(at, "a text");
    return visible(value);
};

/* Text on one line. */
export const line: Decoder<string> = (value, at) => text(value, at).replace(/[\n\t]/g, "\ufffd");

export const number: Decoder<number> = (value, at) => {
    if (typeof value !== "number" || !Number.isFinite(value))
        throw new DecodeError(at, "a number");
    return value;
};

export const flag: Decoder<boolean> = (value, at) => {
    if (typeof value !== "boolean")
        throw new DecodeError(at, "true or false");
    return value;
};

export const nullable = <T>(inner: Decoder<T>): Decoder<T | null> =>
    (value, at) => value === null || value === undefined ? null : inner(value, at);

export const list = <T>(inner: Decoder<T>): Decoder<T[]> => (value, at) => {
    if (!Array.isArray(value) || value.length > MAX_ITEMS)
        throw new DecodeError(at, "a list");
    return value.map((item: unknown, index) => inner(item, `${at}[${index}]`));
};

export const oneOf = <T extends string>(...known: readonly T[]): Decoder<T> => (value, at) => {
    const found = known.find(one => one === value);
    if (found === undefined)
        throw new DecodeError(at, `one of ${known.join(", ")}`);
    return found;
};

/* An object with these fields; further ones are of a newer version and ignored. */
export const object = <T extends object>(fields: { [K in keyof T]: Decoder<T[K]> }): Decoder<T> => (value, at) => {
    const found = entries(value, at);
    const decoded = {} as T;
    for (const key of Object.keys(fields) as (keyof T & string)[])
        decoded[key] = fields[key](found.get(key), at === "" ? key : `${at}.${key}`);
    return decoded;
};

/* An object's own entries: names such as '__proto__' are only keys. */
export const entries = (value: unknown, at: string): Map<string, unknown> => {
    if (typeof value !== "object" || value === null || Array.isArray(value))
        throw new DecodeError(at, "an object");
    return new Map(Object.entries(value));
};

/* A D-Bus variant, as Cockpit has it in JSON. */
export const variant = <T>(inner: Decoder<T>): Decoder<T> => (value, at) => inner(entries(value, at).get("v"), at);

export const json = <T>(inner: Decoder<T>): Decoder<T> => (value, at) => {
    if (typeof value !== "string" || value.length > MAX_TEXT)
        throw new DecodeError(at, "a text");
    let parsed: unknown;
    try {
        parsed = JSON.parse(value);
    } catch {
        throw new DecodeError(at, "JSON");
    }
    return inner(parsed, at);
};
