import hooks from "eslint-plugin-react-hooks";
import tseslint from "typescript-eslint";

export default tseslint.config(
    { ignores: ["dist", "node_modules", "src/cockpit.d.ts", "*.js", "test/*.js"] },
    ...tseslint.configs.strictTypeChecked,
    { languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } } },
    {
        plugins: { "react-hooks": hooks },
        rules: {
            "react-hooks/rules-of-hooks": "error",
            "react-hooks/exhaustive-deps": "error",
            // React's way to show HTML is not used for text from outside.
            "no-restricted-syntax": ["error", "JSXAttribute[name.name='dangerouslySetInnerHTML']", "AssignmentExpression[left.property.name=/^(inner|outer)HTML$/]"],
            "@typescript-eslint/restrict-template-expressions": ["error", { allowNumber: true }],
        },
    },
);
