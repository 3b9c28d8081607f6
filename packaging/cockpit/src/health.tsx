/* Health: the checks of 'variantctl doctor', each with its hint and the command that fixes it. */

import { type ReactNode, useState } from "react";
import { Button } from "@patternfly/react-core/dist/esm/components/Button";
import { Spinner } from "@patternfly/react-core/dist/esm/components/Spinner";
import { Switch } from "@patternfly/react-core/dist/esm/components/Switch";

import { type Check, type Verdict, doctor } from "./agent";
import { Command, FaultAlert, type Status, StatusLabel, counted } from "./ui";
import { useLoad } from "./use-load";

const VERDICTS: { verdict: Verdict, text: string, many?: string, status: Status }[] = [
    { verdict: "fail", text: "failed", status: "danger" },
    { verdict: "warn", text: "warning", many: "warnings", status: "warning" },
    { verdict: "unknown", text: "unknown", status: "info" },
    { verdict: "pass", text: "passed", status: "success" },
];
const order = (check: Check): number => VERDICTS.findIndex(one => one.verdict === check.verdict);

/* Equal checks of several subjects are one. */
const joined = (checks: Check[]): Check[] => {
    const found = new Map<string, Check>();
    for (const check of checks) {
        const { subject, ...rest } = check;
        const key = JSON.stringify(rest);
        const before = found.get(key);
        found.set(key, before === undefined ? check : { ...check, subject: [before.subject, subject].filter(one => one !== null).join(", ") });
    }
    return [...found.values()];
};

const CheckView = ({ check }: { check: Check }): ReactNode => {
    const found = VERDICTS[order(check)];
    return (
        <li className="vd-check">
            <StatusLabel status={found?.status} text={found?.text ?? ""} />
            <div className="vd-wrap">
                <div>{check.subject !== null && <strong>{check.subject}: </strong>}{check.text} <span className="vd-small">{check.code}</span></div>
                {check.detail !== null && <div className="vd-small">{check.detail}</div>}
                {check.hint !== null && <div>{check.hint}</div>}
                {check.command !== null && <Command text={check.command} />}
            </div>
        </li>
    );
};

export const Health = (): ReactNode => {
    const { value, error, isLoading, again } = useLoad(doctor);
    const [isAll, setAll] = useState(false);
    const groups = [...new Set(value?.checks.map(one => one.group))];
    const shown = (group: string): Check[] =>
        joined((value?.checks ?? []).filter(one => one.group === group && (isAll || one.verdict !== "pass"))).sort((a, b) => order(a) - order(b));
    return (
        <div className="vd-stack">
            <div className="vd-buttons">
                {value !== null && VERDICTS.map(one => <StatusLabel key={one.verdict} status={one.status} isFilled={value.summary[one.verdict] > 0} text={counted(value.summary[one.verdict], one.text, one.many ?? one.text)} />)}
                <Switch id="all-checks" label="Show passed checks" isChecked={isAll} onChange={(_, checked) => { setAll(checked) }} />
                <Button variant="secondary" onClick={again} isLoading={isLoading}>Check again</Button>
            </div>
            {error !== null && <FaultAlert title="The host cannot be checked" error={error} />}
            {value === null && error === null && <Spinner aria-label="Checking the host" />}
            {value !== null && <p>Next: <Command text={value.next} /></p>}
            {groups.filter(group => shown(group).length > 0).map(group => (
                <section key={group} aria-labelledby={`group-${group}`}>
                    <h2 id={`group-${group}`} className="vd-heading">{group.charAt(0).toUpperCase() + group.slice(1)}</h2>
                    <ul>{shown(group).map((check, index) => <CheckView key={index} check={check} />)}</ul>
                </section>
            ))}
        </div>
    );
};
