/* The agent's state in a component. */

import { useSyncExternalStore } from "react";

import { type State, store } from "./agent";

/* One part of the state: a component is rendered again only when that changes. */
export const useAgent = <K extends keyof State>(part: K): State[K] => useSyncExternalStore(store.subscribe, () => store.get()[part]);
