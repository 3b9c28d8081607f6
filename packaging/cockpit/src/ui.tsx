/* What several pages use: labels of states, messages, a button that copies, a filter with pages. */

import { type ReactNode, startTransition, useEffect, useState } from "react";
import { Alert } from "@patternfly/react-core/dist/esm/components/Alert";
import { Button } from "@patternfly/react-core/dist/esm/components/Button";
import { Label } from "@patternfly/react-core/dist/esm/components/Label";
import { Pagination } from "@patternfly/react-core/dist/esm/components/Pagination";
import { SearchInput } from "@patternfly/react-core/dist/esm/components/SearchInput";
import { Toolbar, ToolbarContent, ToolbarItem } from "@patternfly/react-core/dist/esm/components/Toolbar";
import CopyIcon from "@patternfly/react-icons/dist/esm/icons/copy-icon";
import CheckIcon from "@patternfly/react-icons/dist/esm/icons/check-icon";

import { Fault } from "./agent/bus";
import type { Device, DeviceState, Outcome } from "./agent/reply";

type Status = "success" | "warning" | "danger" | "info" | undefined;

const STATES: Record<DeviceState, Status> = {
    free: undefined, reserved: "info", binding: "info", bound: "success", releasing: "info", degraded: "danger",
};

export const StateLabel = ({ state }: { state: DeviceState }): ReactNode =>
    <Label variant="outline" status={STATES[state]}>{state}</Label>;

const OUTCOMES: Record<Outcome, [Status, string]> = {
    foreign: [undefined, "no GPU of a recipe"],
    "on-request": ["warning", "waits for 'prepare'"],
    complete: ["success", "complete"],
    completed: ["success", "completed"],
    reverted: ["warning", "reverted"],
    refused: ["danger", "refused"],
    failed: ["danger", "failed"],
};

export const OutcomeLabel = ({ outcome }: { outcome: Outcome }): ReactNode =>
    <Label variant="outline" status={OUTCOMES[outcome][0]}>{OUTCOMES[outcome][1]}</Label>;

export const owner = (device: Device): string => {
    if (device.domain !== "")
        return device.domain;
    if (device.state === "bound")
        return device.reserved ? "reservation" : "administrator";
    return "";
};

/* Shows an error in words, with the way out. */
export const FaultAlert = ({ title, error }: { title: string, error: unknown }): ReactNode => {
    const fault = Fault.of(error);
    return (
        <Alert variant={fault.kind === "denied" ? "warning" : "danger"} isInline title={title} className="vd-wrap" role="alert">
            <p>{fault.message}</p>
            {fault.refusal !== null && <p>{fault.refusal.hint}</p>}
            {fault.refusal?.command != null && <Command text={fault.refusal.command} />}
            {fault.kind === "denied" && <p>Turn on administrative access at the top of Cockpit, then try again.</p>}
        </Alert>
    );
};

/* Without HTTPS the browser has no clipboard for pages, but copies a selection. */
const copy = async (text: string): Promise<void> => {
    if (window.isSecureContext) {
        await navigator.clipboard.writeText(text);
        return;
    }
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    // eslint-disable-next-line @typescript-eslint/no-deprecated -- see above
    document.execCommand("copy");
    area.remove();
};

export const CopyButton = ({ text }: { text: string }): ReactNode => {
    const [isCopied, setCopied] = useState(false);
    const onClick = (): void => { void copy(text).then(() => { setCopied(true) }, () => { setCopied(false) }) };
    return (
        <Button variant="plain" size="sm" aria-label={isCopied ? `copied: ${text}` : `copy: ${text}`} onClick={onClick}
            icon={isCopied ? <CheckIcon /> : <CopyIcon />} />
    );
};

export const Command = ({ text }: { text: string }): ReactNode =>
    <span className="vd-command"><code>{text}</code><CopyButton text={text} /></span>;

const PER_PAGE = 50;
/* Rows of the first rendering: as many as a screen has. The rest follows while the page can be used already. */
const AT_FIRST = 15;

/* The rows of a list whose text contains the filter, a page at a time, and the toolbar for it. */
export const useRows = <T,>(all: T[], textOf: (row: T) => string, what: string): [T[], ReactNode] => {
    const [filter, setFilter] = useState("");
    const [page, setPage] = useState(1);
    const [limit, setLimit] = useState(AT_FIRST);
    const hasRows = all.length > 0;
    useEffect(() => { if (hasRows) startTransition(() => { setLimit(PER_PAGE) }) }, [hasRows]);
    const wanted = filter.toLowerCase();
    const found = wanted === "" ? all : all.filter(row => textOf(row).toLowerCase().includes(wanted));
    const last = Math.max(1, Math.ceil(found.length / PER_PAGE));
    const current = Math.min(page, last);
    const onFilter = (value: string): void => { setFilter(value); setPage(1) };
    const toolbar = (
        <Toolbar>
            <ToolbarContent>
                <ToolbarItem>
                    <SearchInput aria-label={`Filter ${what}`} placeholder={`Filter ${what}`} value={filter}
                        onChange={(_, value) => { onFilter(value) }} onClear={() => { onFilter("") }} />
                </ToolbarItem>
                <ToolbarItem variant="label" aria-live="polite">{`${found.length} ${what}`}</ToolbarItem>
                {last > 1 && (
                    <ToolbarItem align={{ default: "alignEnd" }}>
                        <Pagination isCompact itemCount={found.length} page={current} perPage={PER_PAGE} widgetId={`pages-${what}`}
                            perPageOptions={[]} onSetPage={(_, next) => { setPage(next) }} />
                    </ToolbarItem>
                )}
            </ToolbarContent>
        </Toolbar>
    );
    return [found.slice((current - 1) * PER_PAGE, (current - 1) * PER_PAGE + limit), toolbar];
};
