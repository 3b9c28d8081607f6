/* The agent's client, a script of its own: it is loaded first, so that the agent replies while the rest of the page is still loading. */

import { store } from "./store";

export { type BindChoice, Fault, bindOptions } from "./bus";
export type { Check, Device, DeviceState, Domain, Hunk, Outcome, Shown, Verdict } from "./reply";
export { type Lost, type ShownJob, type State, store } from "./store";
export { doctor, drawing, show } from "./program";
export { visible } from "./decode";

store.connect();
store.followAccess();
