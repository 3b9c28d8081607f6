/* What several pages use: labels of states, messages, a button that copies, a filter with pages. */

import { type ReactNode, startTransition, useEffect, useState } from "react";
import { Alert } from "@patternfly/react-core/dist/esm/components/Alert";
import { Button } from "@patternfly/react-core/dist/esm/components/Button";
import { Pagination } from "@patternfly/react-core/dist/esm/components/Pagination";
import { SearchInput } from "@patternfly/react-core/dist/esm/components/SearchInput";
import { Toolbar, ToolbarContent, ToolbarItem } from "@patternfly/react-core/dist/esm/components/Toolbar";
import CopyIcon from "@patternfly/react-icons/dist/esm/icons/copy-icon";
import CheckIcon from "@patternfly/react-icons/dist/esm/icons/check-icon";
import DangerIcon from "@patternfly/react-icons/dist/esm/icons/rh-ui-error-fill-icon";
import InfoIcon from "@patternfly/react-icons/dist/esm/icons/rh-ui-information-fill-icon";
import SuccessIcon from "@patternfly/react-icons/dist/esm/icons/rh-ui-check-circle-fill-icon";
import WarningIcon from "@patternfly/react-icons/dist/esm/icons/rh-ui-warning-fill-icon";

import { type Device, type DeviceState, Fault, type Outcome } from "./agent";

export type Status = "success" | "warning" | "danger" | "info";

const STATUSES: Record<Status, [string, ReactNode]> = {
    success: ["pf-m-success", <SuccessIcon key="icon" />],
    warning: ["pf-m-warning", <WarningIcon key="icon" />],
    danger: ["pf-m-danger", <DangerIcon key="icon" />],
    info: ["pf-m-info", <InfoIcon key="icon" />],
};

/* PatternFly's label. Its own component measures each text for a tooltip, which costs a layout of the page. */
export const StatusLabel = ({ status, isFilled = false, text }: { status: Status | undefined, isFilled?: boolean, text: string }): ReactNode => {
    const [name, icon] = status === undefined ? ["", null] : STATUSES[status];
    return (
        <span className={`pf-v6-c-label ${isFilled ? "" : "pf-m-outline"} ${name}`}>
            <span className="pf-v6-c-label__content">
                {icon !== null && <span className="pf-v6-c-label__icon">{icon}</span>}
                <span className="pf-v6-c-label__text">{text}</span>
            </span>
        </span>
    );
};

const STATES: Record<DeviceState, Status | undefined> = {
    free: undefined, reserved: "info", binding: "info", bound: "success", releasing: "info", degraded: "danger",
};

export const StateLabel = ({ state }: { state: DeviceState }): ReactNode =>
    <StatusLabel status={STATES[state]} text={state} />;

const OUTCOMES: Record<Outcome, [Status | undefined, string]> = {
    foreign: [undefined, "no GPU of a recipe"],
    "on-request": ["warning", "waits for 'prepare'"],
    complete: ["success", "complete"],
    completed: ["success", "completed"],
    reverted: ["warning", "reverted"],
    refused: ["danger", "refused"],
    failed: ["danger", "failed"],
};

export const OutcomeLabel = ({ outcome }: { outcome: Outcome }): ReactNode =>
    <StatusLabel status={OUTCOMES[outcome][0]} text={OUTCOMES[outcome][1]} />;

export const owner = (device: Device): string => {
    if (device.domain !== "")
        return device.domain;
    if (device.state === "bound")
        return device.reserved ? "reservation" : "administrator";
    return "";
};

/* A count with its noun: '1 guest', '2 guests'. */
export const counted = (count: number, one: string, many = `${one}s`): string => `${count} ${count === 1 ? one : many}`;

/* polkit's answer is only known after a call, so no button is disabled. */
export const Limited = (): ReactNode => (
    <Alert variant="info" isInline title="Administrative access is off" className="vd-notice">
        <p>polkit decides whether you may change devices and guests. Turn on administrative access at the top of Cockpit to act as root.</p>
    </Alert>
);

/* Shows an error in words, with the way out. 'change' names the action of a call that changes something. */
export const FaultAlert = ({ title, error, change }: { title: string, error: unknown, change?: string }): ReactNode => {
    const fault = Fault.of(error);
    if (change !== undefined && fault.isUnanswered) {
        return (
            <Alert variant="warning" isInline title={`${change}: no reply came`} className="vd-wrap" role="alert">
                <p>{fault.message}</p>
                <p>variantd may have begun or done it. Look at the device or guest, and at Activity, before you try again.</p>
            </Alert>
        );
    }
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

/* A row and a cell of PatternFly's table, whose own components do more than these tables need, for each of many cells. */
export const Row = ({ children }: { children: ReactNode }): ReactNode => <tr className="pf-v6-c-table__tr">{children}</tr>;

const CELLS = { text: "", long: "pf-m-break-word", action: "pf-v6-c-table__action" };

export const Cell = ({ label, kind = "text", children }: { label?: string, kind?: keyof typeof CELLS, children: ReactNode }): ReactNode =>
    <td data-label={label} className={`pf-v6-c-table__td ${CELLS[kind]}`}>{children}</td>;

const PER_PAGE = 50;
/* Rows of the first rendering: as many as a screen has. The rest follows while the page can be used already. */
const AT_FIRST = 15;

/* The rows of a list whose text contains the filter, a page at a time, and the toolbar for it. */
export const useRows = <T,>(all: T[], textOf: (row: T) => string, noun: string): [T[], ReactNode] => {
    const what = `${noun}s`;
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
                <ToolbarItem variant="label" aria-live="polite">{counted(found.length, noun)}</ToolbarItem>
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
