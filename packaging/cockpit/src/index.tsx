/* Starts the page: theme of Cockpit's shell, connection to the agent, React. */

import { createRoot } from "react-dom/client";
import "@patternfly/react-core/dist/styles/base.css";
import "./page.css";

import { App } from "./app";
import { store } from "./agent/store";
import { followTheme } from "./theme";

followTheme();
cockpit.transport.wait(() => {
    store.connect();
    const superuser = cockpit.dbus(null, { bus: "internal" });
    /* Administrative access was turned on or off: a new connection has the new rights. */
    superuser.subscribe({ path: "/superuser", interface: "org.freedesktop.DBus.Properties" }, () => { store.connect() });
});
const place = document.getElementById("app");
if (place !== null)
    createRoot(place).render(<App />);
