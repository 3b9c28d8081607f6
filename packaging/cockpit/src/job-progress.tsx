/* A job: its stage and progress, its result in words, and a button that cancels it while it waits. */

import { type ReactNode, useState } from "react";
import { Alert } from "@patternfly/react-core/dist/esm/components/Alert";
import { Button } from "@patternfly/react-core/dist/esm/components/Button";
import { Progress } from "@patternfly/react-core/dist/esm/components/Progress";

import { FaultAlert } from "./ui";
import { type Lost, type ShownJob, store } from "./agent";

const LOST: Record<Lost, [string, string]> = {
    agent: ["variantd ended before the job did", "It undoes an incomplete change when it starts again."],
    access: ["its progress is not visible without administrative access", "The job continues. Turn on administrative access at the top of Cockpit to see it."],
    object: ["its result is not known", "variantd keeps a result for a minute. The list of devices or guests shows the state."],
};

export const JobProgress = ({ job }: { job: ShownJob }): ReactNode => {
    const [error, setError] = useState<unknown>(null);
    const title = `${job.operation} ${job.device || job.domain || "all devices"}`;
    const cancel = (): void => { store.cancel(job.path).catch((fault: unknown) => { setError(fault) }) };
    if (job.lost !== null) {
        const [what, next] = LOST[job.lost];
        return <Alert variant="warning" isInline title={`${title}: ${what}`}><p>{next}</p></Alert>;
    }
    if (job.state === "failed")
        return <Alert variant="danger" isInline title={`${title} failed`} className="vd-wrap"><p>{job.result}</p></Alert>;
    if (job.state === "done" || job.state === "cancelled")
        return <Alert variant={job.state === "done" ? "success" : "info"} isInline title={`${title}: ${job.state}`} />;
    return (
        <div className="vd-stack">
            <Progress id={`progress-${job.path.replaceAll("/", "-")}`} value={Math.round(job.progress * 100)} title={`${title}: ${job.stage}`} />
            {error !== null && <FaultAlert title="The job was not cancelled" error={error} change="Cancel job" />}
            {job.state === "waiting" && <div><Button variant="secondary" size="sm" onClick={cancel}>Cancel job</Button></div>}
        </div>
    );
};
