/** What every page does from its start: it notes what a person has touched, and signs out. */

import { signOutAtClick } from "./header.js";
import { fields } from "./touched.js";

fields.listen(window, document.documentElement.dataset.touched); // kept by `early.js`, which may stop now
delete document.documentElement.dataset.touched;
signOutAtClick();
