/* Administrative access in Cockpit, which a user turns on and off while the page is open. */

import { entries, line, variant } from "./decode";

/* null: not known, or about to change. */
export interface Access { isAdmin: boolean | null }

const PATH = "/superuser";
const INTERFACE = "cockpit.Superuser";
const PROPERTIES = "org.freedesktop.DBus.Properties";

/* 'none', 'init', or the name of the bridge that has the rights of root. */
const decoded = (current: unknown): Access => {
    const name = variant(line)(current, "Current");
    return { isAdmin: name === "init" ? null : name !== "none" && name !== "" };
};

/* Calls 'found' with the present state, and with each later one. */
export const watchAccess = (found: (access: Access) => void): void => {
    const channel = cockpit.dbus(null, { bus: "internal" });
    const read = (): void => {
        channel.call(PATH, PROPERTIES, "Get", [INTERFACE, "Current"], { type: "ss" })
            .then(([current]) => { found(decoded(current)) }, () => { /* A Cockpit without this interface: polkit's answers tell. */ });
    };
    channel.subscribe({ path: PATH, interface: PROPERTIES, member: "PropertiesChanged" }, (_path, _interface, _member, [of, changed]) => {
        if (of !== INTERFACE)
            return;
        const current = entries(changed, "changes").get("Current");
        /* The bridge in C (before Cockpit 294) names the property without its value. */
        if (current === undefined)
            read();
        else
            found(decoded(current));
    });
    read();
};
