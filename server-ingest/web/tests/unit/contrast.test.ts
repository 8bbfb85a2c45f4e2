import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

/** Of a colour written as #rrggbb. */
function luminance(color: string): number {
  const [red, green, blue] = [1, 3, 5].map(at => {
    const value = Number.parseInt(color.slice(at, at + 2), 16) / 255;
    return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red! + 0.7152 * green! + 0.0722 * blue!;
}

function contrast(left: string, right: string): number {
  const [dark, light] = [luminance(left), luminance(right)].sort((a, b) => a - b);
  return (light! + 0.05) / (dark! + 0.05);
}

test("text can be read on every ground, light and dark", () => {
  const style = readFileSync("src/style/base.css", "utf8");
  const [light, dark] = style.split(':root[data-theme="dark"]');
  for (const part of [light!, dark!]) {
    const color = (name: string) => new RegExp(`--${name}: (#[0-9a-f]{6})`).exec(part)?.[1] ?? assert.fail(name);
    const pairs = [
      ...["text", "muted", "accent", "error"].flatMap(ink =>
        ["ground", "surface", "sunken", "hover"].map(ground => [ink, ground]),
      ),
      ["text", "accent-soft"],
      ["muted", "accent-soft"],
      ["error", "error-soft"],
      ["accent-text", "accent"],
    ];
    for (const [ink, ground] of pairs) {
      const ratio = contrast(color(ink!), color(ground!));
      assert.ok(ratio >= 4.5, `${ink} on ${ground}: ${ratio.toFixed(2)}`);
    }
  }
});
