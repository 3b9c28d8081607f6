/* Connects to the agent when it is imported. */

import { store } from "./store";

store.connect();
store.followAccess();
