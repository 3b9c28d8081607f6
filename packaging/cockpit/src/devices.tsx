/* Devices: each GPU with its driver, owner and state, and what can be done with it. */

import { type ReactNode, useState } from "react";
import { ActionsColumn, Table, Tbody, Td, Th, Thead, Tr } from "@patternfly/react-table";

import { type Action, DeviceDialog } from "./device-dialog";
import { type Device } from "./agent/reply";
import { StateLabel, owner, useRows } from "./ui";
import { useAgent } from "./agent/store";

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

export const Devices = (): ReactNode => {
    const { devices } = useAgent();
    const [chosen, setChosen] = useState<{ address: string, action: Action } | null>(null);
    const all = [...devices.values()].sort((a, b) => a.address < b.address ? -1 : 1);
    const [rows, toolbar] = useRows(all, textOf, "devices");
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
                        <Tr key={device.address}>
                            <Td dataLabel="Device">
                                <a href={`#/topology?device=${encodeURIComponent(device.address)}`}>{device.address}</a>
                                <div className="vd-small">{device.id}</div>
                            </Td>
                            <Td dataLabel="State">
                                <StateLabel state={device.state} />
                                {device.note !== "" && <div className="vd-small vd-wrap">{device.note}</div>}
                            </Td>
                            <Td dataLabel="Driver">
                                {device.driver || "none"}
                                {device.previousDriver !== "" && <div className="vd-small">before: {device.previousDriver}</div>}
                            </Td>
                            <Td dataLabel="Owner" modifier="breakWord">{owner(device) || "none"}</Td>
                            <Td dataLabel="Group">{numberOrNone(device.group)}</Td>
                            <Td dataLabel="NUMA node">{numberOrNone(device.numaNode)}</Td>
                            <Td dataLabel="Recipe">{device.recipe || "none"}</Td>
                            <Td isActionCell>
                                <ActionsColumn isDisabled={actions(device).length === 0}
                                    items={actions(device).map(action => ({
                                        title: NAMES[action], onClick: () => { setChosen({ address: device.address, action }) },
                                    }))}
                                    actionsToggle={undefined} aria-label={`Actions for ${device.address}`} />
                            </Td>
                        </Tr>
                    ))}
                </Tbody>
            </Table>
            {all.length === 0 && <p className="vd-empty">This host has no device that a recipe covers.</p>}
            {chosen !== null && (
                <DeviceDialog address={chosen.address} action={chosen.action}
                    device={all.find(one => one.address === chosen.address) ?? null} onClose={() => { setChosen(null) }} />
            )}
        </>
    );
};
