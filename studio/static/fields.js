/** The fields of this page, which listen as soon as anything of the page asks for them. */

import { TouchedFields } from "./touched.js";

export const fields = new TouchedFields();
fields.listen(window, document.documentElement.dataset.touched); // kept by `early.js`, which may stop now
delete document.documentElement.dataset.touched;
