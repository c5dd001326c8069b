import js from "@eslint/js";
import globals from "globals";

const rules = {
  ...js.configs.recommended.rules,
  curly: ["error", "multi-line"],
  eqeqeq: "error",
  "no-console": "error",
  "no-implicit-globals": "error",
  "no-var": "error",
  "prefer-const": "error",
  "max-len": ["error", { code: 120 }],
  "max-lines-per-function": ["error", { max: 60, skipComments: true }],
  complexity: ["error", 15],
  // Text of corpora and models enters the page as text only.
  "no-restricted-properties": [
    "error",
    ...["innerHTML", "outerHTML", "insertAdjacentHTML", "srcdoc"].map((property) => ({ property })),
    { object: "document", property: "write" },
  ],
  "no-eval": "error",
  "no-implied-eval": "error",
  "no-new-func": "error",
};

export default [
  { files: ["studio/static/**/*.js"], rules, languageOptions: { globals: globals.browser } },
  { files: ["tests/javascript/**/*.js"], rules, languageOptions: { globals: globals.node } },
];
