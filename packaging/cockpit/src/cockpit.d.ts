/* The part of Cockpit's ../base1/cockpit.js that this page uses; https://cockpit-project.org/guide/latest/development */

interface CockpitVariant { t: string, v: unknown }

interface CockpitError { name?: string, message?: string, problem?: string, exit_status?: number | null }

interface CockpitDBus {
    call(path: string, iface: string, method: string, args: unknown[], options?: { type?: string, flags?: string }): Promise<unknown[]>
    subscribe(
        match: { path?: string, path_namespace?: string, interface?: string, member?: string },
        callback: (path: string, iface: string, member: string, args: unknown[]) => void,
    ): { remove(): void }
    addEventListener(name: "owner", callback: (event: Event, owner: string | null) => void): void
    addEventListener(name: "close", callback: (event: Event, reason: { problem?: string, message?: string }) => void): void
    close(): void
}

interface CockpitProcess extends Promise<string> {
    /* Resolves with standard output and standard error. */
    then: Promise<string>["then"]
    close(problem?: string): void
}

interface CockpitLocation {
    readonly path: string[]
    readonly options: Record<string, string | string[]>
    go(path: string[], options?: Record<string, string>): void
}

interface Cockpit {
    dbus(name: string | null, options: { bus: "system" | "internal", superuser?: "try" }): CockpitDBus
    spawn(
        args: string[],
        options: { superuser?: "try", err?: "message" | "ignore", environ?: string[] },
    ): CockpitProcess & { fail(callback: (error: CockpitError, output: string | null) => void): unknown }
    variant(type: string, value: unknown): CockpitVariant
    jump(path: string): void
    location: CockpitLocation
    addEventListener(name: "locationchanged", callback: () => void): void
    removeEventListener(name: "locationchanged", callback: () => void): void
}

declare const cockpit: Cockpit;
