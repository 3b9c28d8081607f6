/* Activity: jobs with their progress, and the events since the page was opened. */

import { type ReactNode } from "react";
import { Button } from "@patternfly/react-core/dist/esm/components/Button";
import { Table, Tbody, Td, Th, Thead, Tr } from "@patternfly/react-table";

import { JobProgress } from "./job-progress";
import { useAgent } from "./use-agent";

export const Activity = (): ReactNode => {
    const jobs = useAgent("jobs");
    const events = useAgent("events");
    return (
        <div className="vd-stack">
            <h2 className="vd-heading">Jobs</h2>
            {jobs.length === 0 && <p>No job of yours runs or has ended within a minute.</p>}
            {jobs.map(job => <JobProgress key={job.path} job={job} />)}
            <h2 className="vd-heading">Events since this page was opened</h2>
            {events.length === 0
                ? <p>None.</p>
                : (
                    <Table aria-label="Events" variant="compact" gridBreakPoint="grid-md">
                        <Thead><Tr><Th>Time</Th><Th>Subject</Th><Th>Event</Th></Tr></Thead>
                        <Tbody>
                            {events.map(one => (
                                <Tr key={one.key}>
                                    <Td dataLabel="Time">{one.time.toLocaleTimeString()}</Td>
                                    <Td dataLabel="Subject" modifier="breakWord">{one.subject}</Td>
                                    <Td dataLabel="Event" modifier="breakWord">{one.text}</Td>
                                </Tr>
                            ))}
                        </Tbody>
                    </Table>
                )}
            <div><Button variant="link" isInline onClick={() => { cockpit.jump("/system/logs#/?priority=info&service=variantd.service") }}>Messages of variantd in the journal</Button></div>
        </div>
    );
};
