/* Devices: each GPU with its driver, owner and state, and what can be done with it. */

import { type ReactNode, useRef, useState } from "react";
import { Dropdown, DropdownItem, DropdownList } from "@patternfly/react-core/dist/esm/components/Dropdown";
import { Table, Tbody, Th, Thead, Tr } from "@patternfly/react-table";
import EllipsisIcon from "@patternfly/react-icons/dist/esm/icons/ellipsis-v-icon";

import { type Action, DeviceDialog } from "./device-dialog";
import { type Device } from "./agent";
import { Cell, Row, StateLabel, owner, useRows } from "./ui";
import { useAgent } from "./use-agent";

const actions = (device: Device): Action[] => {
    const reservation: Action = device.reserved ? "unreserve" : "reserve";
    switch (device.state) {
    case "free":
    case "reserved": return ["bind", reservation];
    case "bound": return device.domain === "" ? ["release", reservation] : [reservation];
    case "degraded": return ["recover"];
    default: return [];
    }
};

const NAMES: Record<Action, string> = {
    bind: "Bind\u2026", release: "Release\u2026", reserve: "Reserve\u2026", unreserve: "End reservation\u2026", recover: "Recover\u2026",
};

const textOf = (device: Device): string => Object.values(device).join(" ");
const numberOrNone = (number: number): string => number < 0 ? "none" : String(number);

interface Chosen { address: string, action: Action }

/* The menu below a row's button. One for all rows: each menu reads the computed style of the page when it is made. */
const useMenu = (onChoose: (chosen: Chosen) => void): [(device: Device) => ReactNode, ReactNode] => {
    const place = useRef<HTMLButtonElement | null>(null);
    const [device, setDevice] = useState<Device | null>(null);
    const [isOpen, setOpen] = useState(false);
    const button = (one: Device): ReactNode => {
        const isOwn = isOpen && device?.address === one.address;
        const isDisabled = actions(one).length === 0;
        return (
            <button type="button" className={`pf-v6-c-menu-toggle pf-m-plain ${isOwn ? "pf-m-expanded" : ""} ${isDisabled ? "pf-m-disabled" : ""}`}
                aria-label={`Actions for ${one.address}`} aria-expanded={isOwn} disabled={isDisabled}
                onClick={event => { place.current = event.currentTarget; setDevice(one); setOpen(!isOwn) }}>
                <span className="pf-v6-c-menu-toggle__icon"><EllipsisIcon set="default" /></span>
            </button>
        );
    };
    const menu = (
        <Dropdown isOpen={isOpen} onOpenChange={setOpen} shouldFocusFirstItemOnOpen shouldFocusToggleOnSelect
            popperProps={{ position: "end" }} toggle={{ toggleNode: <></>, toggleRef: place }}>
            <DropdownList>
                {device !== null && actions(device).map(action => (
                    <DropdownItem key={action} onClick={() => { setOpen(false); onChoose({ address: device.address, action }) }}>{NAMES[action]}</DropdownItem>
                ))}
            </DropdownList>
        </Dropdown>
    );
    return [button, menu];
};

export const Devices = (): ReactNode => {
    const devices = useAgent("devices");
    const [chosen, setChosen] = useState<Chosen | null>(null);
    const [button, menu] = useMenu(setChosen);
    const all = [...devices.values()].sort((a, b) => a.address < b.address ? -1 : 1);
    const [rows, toolbar] = useRows(all, textOf, "device");
    return (
        <>
            {toolbar}
            <Table aria-label="Devices" variant="compact" gridBreakPoint="grid-md">
                <Thead>
                    <Tr>
                        <Th>Device</Th><Th>State</Th><Th>Driver</Th><Th>Owner</Th><Th>Group</Th><Th>NUMA node</Th><Th>Recipe</Th>
                        <Th screenReaderText="Actions" />
                    </Tr>
                </Thead>
                <Tbody>
                    {rows.map(device => (
                        <Row key={device.address}>
                            <Cell label="Device">
                                <a href={`#/topology?device=${encodeURIComponent(device.address)}`}>{device.address}</a>
                                <div className="vd-small">{device.id}</div>
                            </Cell>
                            <Cell label="State">
                                <StateLabel state={device.state} />
                                {device.note !== "" && <div className="vd-small vd-wrap">{device.note}</div>}
                            </Cell>
                            <Cell label="Driver">
                                {device.driver || "none"}
                                {device.previousDriver !== "" && <div className="vd-small">before: {device.previousDriver}</div>}
                            </Cell>
                            <Cell label="Owner" kind="long">{owner(device) || "none"}</Cell>
                            <Cell label="Group">{numberOrNone(device.group)}</Cell>
                            <Cell label="NUMA node">{numberOrNone(device.numaNode)}</Cell>
                            <Cell label="Recipe">{device.recipe || "none"}</Cell>
                            <Cell kind="action">{button(device)}</Cell>
                        </Row>
                    ))}
                </Tbody>
            </Table>
            {menu}
            {all.length === 0 && <p className="vd-empty">This host has no device that a recipe covers.</p>}
            {chosen !== null && (
                <DeviceDialog address={chosen.address} action={chosen.action}
                    device={all.find(one => one.address === chosen.address) ?? null} onClose={() => { setChosen(null) }} />
            )}
        </>
    );
};
