/* Guests: each domain with its outcome; the plan of one as a diff, and what can be done with it. */

import { type ReactNode, useCallback, useState } from "react";
import { Button } from "@patternfly/react-core/dist/esm/components/Button";
import { ExpandableRowContent, Table, Tbody, Td, Th, Thead, Tr } from "@patternfly/react-table";
import { Spinner } from "@patternfly/react-core/dist/esm/components/Spinner";

import { type Domain, type Hunk, store } from "./agent";
import { Cell, FaultAlert, OutcomeLabel, useRows } from "./ui";
import { JobProgress } from "./job-progress";
import { useAgent } from "./use-agent";
import { useLoad } from "./use-load";

const KINDS: Record<string, [string, string]> = { "+": ["vd-added", "added: "], "-": ["vd-removed", "removed: "] };

const HunkView = ({ hunk }: { hunk: Hunk }): ReactNode => (
    <>
        <span className="vd-hunk">{`@@ -${hunk.old_start},${hunk.old_lines} +${hunk.new_start},${hunk.new_lines} @@\n`}</span>
        {hunk.lines.map((one, index) => {
            const [name, spoken] = KINDS[one.charAt(0)] ?? ["", ""];
            const reasons = hunk.reasons.filter(reason => reason.line === index && !reason.again);
            return (
                <span key={index}>
                    {reasons.map(reason => <span key={reason.text} className="vd-reason">{`# ${reason.device ?? ""} ${reason.text} (${reason.code})\n`}</span>)}
                    <span className={name}>{spoken !== "" && <span className="pf-v6-screen-reader">{spoken}</span>}{`${one}\n`}</span>
                </span>
            );
        })}
    </>
);

const Details = ({ domain }: { domain: Domain }): ReactNode => {
    const jobs = useAgent("jobs");
    const [path, setPath] = useState<string | null>(null);
    const [error, setError] = useState<unknown>(null);
    const read = useCallback(() => store.agentBus().plan(domain.uuid), [domain]);
    const { value, error: refused } = useLoad(read);
    const job = jobs.find(one => one.path === path);
    const isBusy = job !== undefined && job.lost === null && (job.state === "waiting" || job.state === "working");
    const start = async (operation: "prepare" | "revert", options: Record<string, CockpitVariant>): Promise<void> => {
        setError(null);
        try {
            setPath(await store.start(operation, domain.uuid, options));
        } catch (fault) {
            setError(fault);
        }
    };
    return (
        <div className="vd-stack">
            {domain.sentence !== "" && <p className="vd-wrap">{domain.sentence}</p>}
            {refused !== null && <FaultAlert title="The definition cannot be completed" error={refused} />}
            {error !== null && <FaultAlert title="The definition was not changed" error={error} change="Change of the definition" />}
            {job !== undefined && <JobProgress job={job} />}
            {value === null && refused === null && <Spinner size="md" aria-label="Planning the definition" />}
            {value !== null && (
                <>
                    <ul>{value.plan.devices.map(one => <li key={one.address}>{`${one.address}: ${one.label}, driver ${one.driver}, cells ${one.cells || "none"}`}</li>)}</ul>
                    <ul>{value.plan.notes.map(one => <li key={one.code + one.text} className="vd-wrap">{`${one.device ?? ""} ${one.text} (${one.code})`}</li>)}</ul>
                    {value.plan.changed
                        ? <pre className="vd-code" tabIndex={0} aria-label={`Plan of ${domain.name}`}>{value.plan.hunks.map((hunk, index) => <HunkView key={index} hunk={hunk} />)}</pre>
                        : <p>The definition is complete.</p>}
                </>
            )}
            <div className="vd-buttons">
                <Button isDisabled={isBusy || value?.plan.changed !== true}
                    onClick={() => { void start("prepare", { plan: cockpit.variant("s", value?.text ?? "") }) }}>Prepare: make these changes</Button>
                <Button variant="secondary" isDisabled={isBusy} onClick={() => { void start("revert", {}) }}>Revert: remove what was added</Button>
            </div>
        </div>
    );
};

export const Guests = (): ReactNode => {
    const domains = useAgent("domains");
    const devices = useAgent("devices");
    const [open, setOpen] = useState<string | null>(null);
    const [rows, toolbar] = useRows(domains, one => `${one.name} ${one.uuid} ${one.outcome} ${one.sentence}`, "guest");
    const devicesOf = (domain: Domain): string =>
        [...devices.values()].filter(one => one.domainUuid === domain.uuid).map(one => one.address).join(", ");
    return (
        <>
            {toolbar}
            <Table aria-label="Guests" variant="compact" gridBreakPoint="grid-md">
                <Thead><Tr><Th screenReaderText="Details" /><Th>Guest</Th><Th>Definition</Th><Th>Bound devices</Th></Tr></Thead>
                {rows.map((domain, index) => (
                    <Tbody key={domain.uuid} isExpanded={open === domain.uuid}>
                        <Tr>
                            <Td expand={{ rowIndex: index, isExpanded: open === domain.uuid, expandId: "guest", onToggle: () => { setOpen(open === domain.uuid ? null : domain.uuid) } }} />
                            <Cell label="Guest" kind="long">{domain.name}</Cell>
                            <Cell label="Definition"><OutcomeLabel outcome={domain.outcome} /></Cell>
                            <Cell label="Bound devices">{devicesOf(domain) || "none"}</Cell>
                        </Tr>
                        {open === domain.uuid && <Tr isExpanded><Td colSpan={4}><ExpandableRowContent><Details domain={domain} /></ExpandableRowContent></Td></Tr>}
                    </Tbody>
                ))}
            </Table>
            {domains.length === 0 && <p className="vd-empty">No guest of libvirt has a device that a recipe covers.</p>}
        </>
    );
};
