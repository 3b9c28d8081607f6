/* A dialog for one action on a device: who holds it and what will be done, then the progress of the job. */

import { type ReactNode, useCallback, useState } from "react";
import { Alert } from "@patternfly/react-core/dist/esm/components/Alert";
import { Button } from "@patternfly/react-core/dist/esm/components/Button";
import { Checkbox } from "@patternfly/react-core/dist/esm/components/Checkbox";
import { Modal, ModalBody, ModalFooter, ModalHeader } from "@patternfly/react-core/dist/esm/components/Modal";
import { Spinner } from "@patternfly/react-core/dist/esm/components/Spinner";

import { type BindChoice, type Device, type Shown, bindOptions, show, store } from "./agent";
import { FaultAlert, Limited, counted } from "./ui";
import { JobProgress } from "./job-progress";
import { useAgent } from "./use-agent";
import { useLoad } from "./use-load";

export type Action = "bind" | "release" | "reserve" | "unreserve" | "recover";

const TEXTS: Record<Action, [string, string, string]> = {
    bind: ["Bind", "Bind device", "Binds the device to the driver of its recipe, outside of any guest, until it is released or the host boots."],
    release: ["Release", "Release device", "Restores the driver that the device had before."],
    reserve: ["Reserve", "Reserve device", "From the next boot on, the device is bound before another driver can bind it. Nothing changes now."],
    unreserve: ["End reservation", "End reservation of device", "The device keeps its driver until it is released or the host boots."],
    recover: ["Recover", "Recover device", "Releases the device after an interrupted change of its driver."],
};

const Holders = ({ address }: { address: string }): ReactNode => {
    const read = useCallback(() => show(address), [address]);
    const { value, error } = useLoad(read);
    if (error !== null)
        return <FaultAlert title="The processes that hold the device are not known" error={error} />;
    if (value === null)
        return <Spinner size="md" aria-label="Looking for processes that hold the device" />;
    return <HoldersView found={value} />;
};

const HoldersView = ({ found }: { found: Shown }): ReactNode => {
    const { occupancy } = found;
    if (occupancy === null)
        return <p>It is not known which processes hold the device.</p>;
    const { holders, hidden_processes: hidden, virtual_functions: functions } = occupancy;
    return (
        <>
            {holders.length === 0
                ? <p>No visible process holds the device.</p>
                : (
                    <Alert variant="warning" isInline title="Processes that hold the device">
                        <ul>
                            {holders.map(one => (
                                <li key={one.pid}>{`${one.command} (pid ${one.pid}${one.unit === null ? "" : `, ${one.unit}`}): `}
                                    {one.nodes.map(node => node.shared ? `perhaps ${node.path}` : node.path).join(", ")}</li>
                            ))}
                        </ul>
                    </Alert>
                )}
            {hidden > 0 && <p>{`${counted(hidden, "process of another user is", "processes of other users are")} not visible without administrative access.`}</p>}
            {functions > 0 && <p>{`${counted(functions, "virtual function is", "virtual functions are")} enabled.`}</p>}
        </>
    );
};

const Preview = ({ address, choice }: { address: string, choice: BindChoice }): ReactNode => {
    const { allowGroup, stopServices } = choice;
    const read = useCallback(() => store.agentBus().dryRun(address, { allowGroup, stopServices }), [address, allowGroup, stopServices]);
    const { value, error } = useLoad(read);
    if (error !== null)
        return <FaultAlert title="The bind would be refused" error={error} />;
    if (value === null)
        return <Spinner size="md" aria-label="Planning the writes" />;
    return (
        <>
            {value.against.map(text => <Alert key={text} variant="warning" isInline title={text} className="vd-wrap" />)}
            {value.module !== null && <p>{`The module ${value.module} is loaded first.`}</p>}
            <details>
                <summary>{counted(value.writes.length, "write")}</summary>
                <pre className="vd-code" tabIndex={0}>{value.writes.join("\n")}</pre>
            </details>
        </>
    );
};

interface Props { address: string, action: Action, device: Device | null, onClose: () => void }

export const DeviceDialog = ({ address, action, device, onClose }: Props): ReactNode => {
    const agent = useAgent("agent");
    const reason = useAgent("reason");
    const isAdmin = useAgent("isAdmin");
    const connection = useAgent("connection");
    const jobs = useAgent("jobs");
    const [choice, setChoice] = useState<BindChoice>({ allowGroup: false, stopServices: false });
    const [path, setPath] = useState<string | null>(null);
    const [isBusy, setBusy] = useState(false);
    const [error, setError] = useState<unknown>(null);
    const job = jobs.find(one => one.path === path) ?? null;
    const [verb, title, text] = TEXTS[action];

    const perform = async (): Promise<void> => {
        setBusy(true);
        setError(null);
        try {
            if (action === "reserve" || action === "unreserve") {
                await store.agentBus().reserve(address, action === "reserve");
                store.soon();
                onClose();
            } else {
                setPath(await store.start(action, address, action === "bind" ? bindOptions(choice) : {}));
            }
        } catch (fault) {
            setError(fault);
        }
        setBusy(false);
    };

    return (
        <Modal isOpen variant="medium" onClose={onClose} aria-labelledby="dialog-title" aria-describedby="dialog-body">
            <ModalHeader title={`${title} ${address}`} labelId="dialog-title" />
            <ModalBody id="dialog-body" className="vd-stack">
                {agent === "away" && (
                    <Alert variant="danger" isInline title="variantd does not answer" className="vd-wrap" role="alert">
                        <p>{reason}</p>
                        <p>This dialog can be used again when variantd answers.</p>
                    </Alert>
                )}
                {agent !== "away" && isAdmin === false && <Limited />}
                {device === null && <Alert variant="danger" isInline title={`Device ${address} is not on this host any more`} role="alert" />}
                {error !== null && <FaultAlert title={`${verb} failed`} error={error} change={verb} />}
                {job !== null && <JobProgress job={job} />}
                {job === null && <p>{text}</p>}
                {job === null && device !== null && agent !== "away" && (
                    <>
                        <Holders key={connection} address={address} />
                        {action === "bind" && (
                            <>
                                <Checkbox id="stop-services" label="Stop services that are known to hold GPUs" isChecked={choice.stopServices}
                                    onChange={(_, stopServices) => { setChoice({ ...choice, stopServices }) }} />
                                <Checkbox id="allow-group" label="Also bind functions of its IOMMU group that the host uses" isChecked={choice.allowGroup}
                                    onChange={(_, allowGroup) => { setChoice({ ...choice, allowGroup }) }} />
                                <Preview key={connection} address={address} choice={choice} />
                            </>
                        )}
                    </>
                )}
            </ModalBody>
            <ModalFooter>
                {job === null && (
                    <Button variant={action === "bind" || action === "reserve" ? "primary" : "warning"} isLoading={isBusy}
                        isDisabled={isBusy || device === null || agent === "away"} onClick={() => { void perform() }}>{verb}</Button>
                )}
                <Button variant={job === null ? "link" : "secondary"} onClick={onClose}>{job === null ? "Cancel" : "Close"}</Button>
            </ModalFooter>
        </Modal>
    );
};
