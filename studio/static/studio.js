/** What every page does from its start: it notes what a person has touched, and shows the jobs. */

import { closeMenus, goAtChoice } from "./header.js";
import { fields } from "./touched.js";
import { startTray } from "./tray.js";

fields.listen(window, document.documentElement.dataset.touched); // kept by `early.js`, which may stop now
delete document.documentElement.dataset.touched;
goAtChoice();
closeMenus();
startTray();
