/* The frame of the page: navigation between its five parts, and what is shown while the agent is away. */

import { type ReactNode, memo, useEffect, useState } from "react";
import { Bullseye } from "@patternfly/react-core/dist/esm/layouts/Bullseye";
import { EmptyState, EmptyStateBody } from "@patternfly/react-core/dist/esm/components/EmptyState";
import { Nav, NavItem, NavList } from "@patternfly/react-core/dist/esm/components/Nav";
import { Page, PageSection } from "@patternfly/react-core/dist/esm/components/Page";
import { Spinner } from "@patternfly/react-core/dist/esm/components/Spinner";
import DisconnectedIcon from "@patternfly/react-icons/dist/esm/icons/disconnected-icon";

import { Activity } from "./activity";
import { Command, Limited } from "./ui";
import { Devices } from "./devices";
import { Guests } from "./guests";
import { Health } from "./health";
import { Topology } from "./topology";
import { useAgent } from "./use-agent";

const PARTS: { path: string, label: string, needsAgent: boolean, show: (options: Record<string, string>) => ReactNode }[] = [
    { path: "devices", label: "Devices", needsAgent: true, show: () => <Devices /> },
    { path: "topology", label: "Topology", needsAgent: false, show: options => <Topology options={options} /> },
    { path: "guests", label: "Guests", needsAgent: true, show: () => <Guests /> },
    { path: "health", label: "Health", needsAgent: false, show: () => <Health /> },
    { path: "activity", label: "Activity", needsAgent: false, show: () => <Activity /> },
];

const useLocation = (): [string, Record<string, string>] => {
    const [, setRound] = useState(0);
    useEffect(() => {
        const changed = (): void => { setRound(round => round + 1) };
        cockpit.addEventListener("locationchanged", changed);
        return () => { cockpit.removeEventListener("locationchanged", changed) };
    }, []);
    const options = Object.entries(cockpit.location.options).flatMap(([key, value]) => typeof value === "string" ? [[key, value] as const] : []);
    return [cockpit.location.path[0] ?? "devices", Object.fromEntries(options)];
};

const Away = ({ reason }: { reason: string }): ReactNode => (
    <EmptyState headingLevel="h2" icon={DisconnectedIcon} titleText="variantd does not answer" status="danger" variant="lg">
        <EmptyStateBody className="vd-wrap">
            <p role="alert">{reason}</p>
            <p>This page tries again by itself. The unit and its last messages: <Command text="systemctl status variantd" /></p>
        </EmptyStateBody>
    </EmptyState>
);

/* Not rendered again with each change of the state: PatternFly's list reads the computed style of the page each time. */
const Parts = memo(({ current }: { current: string }): ReactNode => (
    <Nav variant="horizontal-subnav" aria-label="GPU assignment">
        <NavList>
            {PARTS.map(one => <NavItem key={one.path} itemId={one.path} isActive={one.path === current} to={`#/${one.path}`}>{one.label}</NavItem>)}
        </NavList>
    </Nav>
));

export const App = (): ReactNode => {
    const [path, options] = useLocation();
    const agent = useAgent("agent");
    const reason = useAgent("reason");
    const isAdmin = useAgent("isAdmin");
    const isRead = useAgent("isRead");
    const part = PARTS.find(one => one.path === path) ?? PARTS[0];
    const isAway = part?.needsAgent === true && agent === "away";
    const isReading = part?.needsAgent === true && agent === "connecting";
    return (
        <Page className="pf-m-no-sidebar" isContentFilled>
            <h1 className="pf-v6-screen-reader">GPU assignment</h1>
            <PageSection type="subnav" hasBodyWrapper={false}><Parts current={part?.path ?? ""} /></PageSection>
            <PageSection isFilled hasBodyWrapper={false} aria-label={part?.label ?? ""}>
                <div role="status">{part?.needsAgent === true && isAdmin === false && <Limited />}</div>
                {isAway && <Away reason={reason} />}
                {isReading && <Bullseye><Spinner aria-label="Reading the devices" /></Bullseye>}
                {/* An open dialog or plan stays while the agent is away. */}
                {(part?.needsAgent !== true || isRead) && <div hidden={isAway} className="vd-part">{part?.show(options)}</div>}
            </PageSection>
        </Page>
    );
};
