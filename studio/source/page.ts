/** The script of the page, which shows the bundle in the whole window. */

// @ts-expect-error: the built bundle, which is beside this file once it is built
import { make } from "./studio.js";

make().openPage(document.getElementById("studio"));
