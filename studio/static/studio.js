/** What every page does from its start: it notes what a person has touched, and shows the jobs. */

import "./fields.js";
import { closeMenus, goAtChoice } from "./header.js";
import { startTray } from "./tray.js";

goAtChoice();
closeMenus();
startTray();
