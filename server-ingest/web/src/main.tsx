/** The page begins here. */
import { render } from "preact";
import { App } from "./app";
import { startRouting } from "./route";
import { joinOtherTabs } from "./session";
import { startShortcuts } from "./shortcuts";
import { startTheme } from "./theme";
import "./style/base.css";
import "./style/controls.css";
import "./style/frame.css";
import "./style/chart.css";
import "./style/search.css";
import "./style/trace.css";
import "./style/details.css";
import "./style/genai.css";
import "./style/tables.css";

startTheme();
startRouting();
startShortcuts();
void joinOtherTabs().then(() => render(<App />, document.getElementById("page")!));
