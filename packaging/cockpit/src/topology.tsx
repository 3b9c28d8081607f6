/* Topology: the drawing of the host, and of a guest beside it; zoomable, with devices that can be selected. */

import { type ReactNode, useCallback, useEffect, useRef, useState } from "react";
import { Button } from "@patternfly/react-core/dist/esm/components/Button";
import { FormSelect, FormSelectOption } from "@patternfly/react-core/dist/esm/components/FormSelect";
import { Spinner } from "@patternfly/react-core/dist/esm/components/Spinner";
import { Toolbar, ToolbarContent, ToolbarItem } from "@patternfly/react-core/dist/esm/components/Toolbar";

import { type Box, type Drawing, parse } from "./drawing";
import { FaultAlert, StateLabel, owner } from "./ui";
import { drawing, visible } from "./agent";
import { useAgent } from "./use-agent";
import { useLoad } from "./use-load";

const BoxView = ({ box, isSelected }: { box: Box, isSelected: boolean }): ReactNode => {
    const { device } = box;
    const content = (
        <>
            <rect x={box.x} y={box.y} width={box.width} height={box.height} rx={6} fill={box.fill} className="vd-box" />
            {box.lines.map((one, index) => (
                <text key={index} x={box.x + 8} y={box.y + 16 + index * 16} className={index === 0 ? "vd-name" : undefined}>{one}</text>
            ))}
        </>
    );
    if (device === null)
        return <g>{content}</g>;
    const select = (): void => { cockpit.location.go(["topology"], { device }) };
    return (
        <g role="button" tabIndex={0} aria-pressed={isSelected} className={isSelected ? "vd-device vd-selected" : "vd-device"}
            onClick={select} onKeyDown={event => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); select() } }}>
            {content}
        </g>
    );
};

const Picture = ({ found, zoom, selected }: { found: Drawing, zoom: number | null, selected: string | null }): ReactNode => (
    <svg viewBox={`0 0 ${found.width} ${found.height}`} width={zoom === null ? "100%" : found.width * zoom} height={zoom === null ? undefined : found.height * zoom}
        role="group" aria-label={found.title} className="vd-drawing">
        {found.titles.map(one => <text key={one.text} x={one.x} y={one.y} className="vd-title">{one.text}</text>)}
        {found.paths.map((one, index) => <path key={index} d={one.d} className={one.isSame ? "vd-same" : "vd-edge"} />)}
        {found.boxes.map((box, index) => <BoxView key={index} box={box} isSelected={box.device !== null && box.device === selected} />)}
    </svg>
);

const Selected = ({ address }: { address: string }): ReactNode => {
    const devices = useAgent("devices");
    const device = [...devices.values()].find(one => one.address === address);
    return (
        <p role="status" className="vd-selection">
            <strong>{address}</strong>{" "}
            {device === undefined
                ? "no recipe covers it"
                : <><StateLabel state={device.state} />{` driver ${device.driver || "none"}, owner ${owner(device) || "none"} `}<a href="#/devices">Devices</a></>}
        </p>
    );
};

export const Topology = ({ options }: { options: Record<string, string> }): ReactNode => {
    const domains = useAgent("domains");
    const [guest, setGuest] = useState("");
    const [zoom, setZoom] = useState<number | null>(window.innerWidth < 768 ? null : 1);
    const place = useRef<HTMLDivElement>(null);
    const selected = options.device ?? null;
    const read = useCallback(async () => parse(await drawing(guest), visible), [guest]);
    const { value, error, isLoading, again } = useLoad(read);
    useEffect(() => {
        place.current?.querySelector(".vd-selected")?.scrollIntoView({ block: "center", inline: "center" });
    }, [value, selected]);
    return (
        <>
            <Toolbar>
                <ToolbarContent>
                    <ToolbarItem>
                        <FormSelect aria-label="Guest beside the host" value={guest} onChange={(_, chosen) => { setGuest(chosen) }}>
                            <FormSelectOption value="" label="Host only" />
                            {domains.map(one => <FormSelectOption key={one.uuid} value={one.uuid} label={`Host and ${one.name}`} />)}
                        </FormSelect>
                    </ToolbarItem>
                    <ToolbarItem>
                        <Button variant="control" aria-label="Zoom out" onClick={() => { setZoom(Math.max(0.25, (zoom ?? 1) / 1.25)) }}>−</Button>
                        <Button variant="control" aria-label="Zoom in" onClick={() => { setZoom(Math.min(4, (zoom ?? 1) * 1.25)) }}>+</Button>
                        <Button variant="control" onClick={() => { setZoom(null) }}>Fit</Button>
                    </ToolbarItem>
                    <ToolbarItem><Button variant="secondary" onClick={again} isLoading={isLoading}>Read again</Button></ToolbarItem>
                </ToolbarContent>
            </Toolbar>
            {selected !== null && <Selected address={selected} />}
            {error !== null && <FaultAlert title="The topology cannot be drawn" error={error} />}
            {value === null && error === null && <Spinner aria-label="Reading the topology" />}
            {value !== null && <div ref={place} className="vd-scroll" tabIndex={0} role="region" aria-label="Drawing"><Picture found={value} zoom={zoom} selected={selected} /></div>}
        </>
    );
};
