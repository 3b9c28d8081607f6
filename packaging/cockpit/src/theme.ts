/* Dark mode as in Cockpit's shell, which keeps the choice in 'shell:style' and sends 'cockpit-style' to its frames. */

const apply = (chosen: string | null): void => {
    const style = chosen ?? localStorage.getItem("shell:style") ?? "auto";
    const isDark = style === "dark" || style === "auto" && window.matchMedia("(prefers-color-scheme: dark)").matches;
    document.documentElement.classList.toggle("pf-v6-theme-dark", isDark);
};

export const followTheme = (): void => {
    window.addEventListener("storage", event => {
        if (event.key === "shell:style")
            apply(event.newValue);
    });
    window.addEventListener("cockpit-style", event => {
        if (event instanceof CustomEvent)
            apply((event.detail as { style: string }).style);
    });
    window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { apply(null) });
    apply(null);
};
