// All neurons on a plane by what they fire on: of a model, and of all models. What draws them comes when one is opened.
import { html } from "../vendor/htm-preact.js";
import { Lazy } from "../parts.js";

const view = () => import("../map/view.js");

export const MapPage = ({ route }) => html`<${Lazy} load=${view} name="MapView" props=${{ route }} />`;
export const ModelmapPage = ({ route }) => html`<${Lazy} key=${route.slug} load=${view} name="MapView" props=${{ slug: route.slug, route }} />`;
