/* The SVG that 'variantctl topology --svg' prints, parsed into a type: no element of it reaches the page. */

export interface Box { x: number, y: number, width: number, height: number, fill: string, lines: string[], device: string | null }
export interface Path { d: string, isSame: boolean }
export interface Title { x: number, y: number, text: string }
export interface Drawing { width: number, height: number, title: string, boxes: Box[], paths: Path[], titles: Title[] }

const MAX_TEXT = 16 << 20;
const MAX_SIZE = 200_000;
const DEVICE = /^[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]\b/;

export class DrawingError extends Error {}

const wrong = (what: string): DrawingError => new DrawingError(`cannot show the drawing: ${what}; reload the page`);

const size = (element: Element, name: string): number => {
    const value = Number(element.getAttribute(name));
    if (!Number.isInteger(value) || value < 0 || value > MAX_SIZE)
        throw wrong(`'${name}' of '${element.tagName}' is not a size`);
    return value;
};

const matching = (element: Element, name: string, form: RegExp): string => {
    const value = element.getAttribute(name) ?? "";
    if (!form.test(value))
        throw wrong(`'${name}' of '${element.tagName}' has an unexpected form`);
    return value;
};

export const parse = (text: string, clean: (text: string) => string): Drawing => {
    if (text.length > MAX_TEXT)
        throw wrong("it is larger than 16 MiB");
    /* The content security policy reports a style even in a document that is only parsed. */
    const plain = text.replace(/<style>[^<]*<\/style>/u, "");
    const root = new DOMParser().parseFromString(plain, "image/svg+xml").documentElement;
    if (root.localName !== "svg")
        throw wrong("variantctl printed no SVG");
    const drawing: Drawing = { width: size(root, "width"), height: size(root, "height"), title: "", boxes: [], paths: [], titles: [] };
    for (const element of root.children)
        add(drawing, element, clean);
    return drawing;
};

const add = (drawing: Drawing, element: Element, clean: (text: string) => string): void => {
    const content = clean(element.textContent);
    const box = drawing.boxes.at(-1);
    switch (element.localName) {
    case "title": drawing.title = content; return;
    case "path":
        drawing.paths.push({ d: matching(element, "d", /^[MHVC0-9 ]+$/), isSame: element.getAttribute("class") === "same" });
        return;
    case "rect":
        drawing.boxes.push({
            x: size(element, "x"),
            y: size(element, "y"),
            width: size(element, "width"),
            height: size(element, "height"),
            fill: matching(element, "fill", /^(#[0-9a-f]{3,6}|[a-z]+)$/),
            lines: [],
            device: null,
        });
        return;
    case "text":
        if (element.getAttribute("class") === "title")
            drawing.titles.push({ x: size(element, "x"), y: size(element, "y"), text: content });
        else if (box !== undefined)
            addLine(box, content);
        return;
    default: throw wrong(`unexpected element '${element.localName}'`);
    }
};

const addLine = (box: Box, content: string): void => {
    if (box.lines.length === 0)
        box.device = DEVICE.exec(content)?.[0] ?? null;
    box.lines.push(content);
};
