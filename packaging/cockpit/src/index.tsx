/* Starts the page: theme of Cockpit's shell, connection to the agent, React. */

import { createRoot } from "react-dom/client";
import "@patternfly/react-core/dist/styles/base.css";
import "./page.css";

import { App } from "./app";
import { followTheme } from "./theme";

followTheme();
const place = document.getElementById("app");
if (place !== null)
    createRoot(place).render(<App />);
