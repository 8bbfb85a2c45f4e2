import assert from "node:assert/strict";
import { test } from "node:test";
import { picture, Visitor } from "./browser";
import type { World } from "./page.test";
import { CONVERSATION, NOTEBOOK_SESSION } from "./seed";

export function genAiTests(world: World): void {
  test("a trace reads as a conversation: messages, tool calls, tokens, model", async () => {
    const visitor = await Visitor.create(world.browser, world.server);
    const page = await visitor.enter(`/trace/${world.seeded.failed}`);
    await page.getByRole("tab", { name: /^Conversation/ }).click();
    await page.waitForURL(/view=conversation/);
    await page.locator(".said.user").first().waitFor();
    await page.locator(".said.assistant .call-name").first().waitFor();
    await page.locator(".said.tool").getByText("order_id").first().waitFor();
    await page.locator(".meta-line").getByText("tiny-answerer-2026-01").first().waitFor();
    await page
      .locator(".meta-line")
      .getByText(/\d → \d+ tokens/)
      .first()
      .waitFor();
    assert.equal(await page.locator(".said.system").count(), 1, "instructions are said once");
    await visitor.close();
  });

  test("a conversation over several traces says each thing once", async () => {
    const visitor = await Visitor.create(world.browser, world.server);
    const page = await visitor.enter("/conversations");
    await page.locator(".table.conversations tbody tr").first().waitFor();
    await page.locator(".numbers").getByText("Tokens in").waitFor();
    await page.getByRole("cell", { name: "lookup_order" }).first().waitFor();
    await picture(page, "conversations");
    // What failed elsewhere in a trace is told beside what failed in the conversation.
    await page.locator(".table.conversations").getByText("in its trace").first().waitFor();
    await page.getByRole("link", { name: CONVERSATION }).click();
    await page.waitForURL(`**/conversations/${CONVERSATION}*`);
    await page.locator(".transcript .step").first().waitFor();
    const said = await page.locator(".transcript > .step > .said.user .value").allInnerTexts();
    assert.equal(said.length, 3, JSON.stringify(said));
    assert.equal(new Set(said).size, 3, JSON.stringify(said));
    await page
      .getByText(/earlier messages? sent again/)
      .first()
      .waitFor();
    await picture(page, "conversation");
    await page.locator(".meta-line a").first().click();
    await page.waitForURL(/\/trace\/.*span=/);
    await page.locator(".row.selected").waitFor();
    await page.goto(`${world.server.url}/conversations/nothing%2Fhere`);
    await page.getByText("There is no such conversation").waitFor();
    await visitor.close();
  });

  test("spans of OpenInference read as a conversation too", async () => {
    const visitor = await Visitor.create(world.browser, world.server);
    const page = await visitor.enter(`/trace/${world.seeded.openInference}?view=conversation`);
    await page.locator(".said.user").getByText("What is the capital of Peru?").first().waitFor();
    await page.locator(".said.tool").getByText("capital of Peru").first().waitFor();
    await page.locator(".said.assistant").getByText("Lima.").first().waitFor();
    await page.locator(".meta-line").getByText("42 → 5 tokens").waitFor();
    await visitor.close();
  });

  test("a session of OpenInference is in the list of conversations, with its tokens and messages", async () => {
    const visitor = await Visitor.create(world.browser, world.server);
    const page = await visitor.enter("/conversations?service=notebook");
    const row = page.locator(".table.conversations tbody tr").filter({ hasText: NOTEBOOK_SESSION });
    await row.getByText("small-model").waitFor();
    await row.getByText("42").waitFor();
    await row.getByRole("link", { name: NOTEBOOK_SESSION }).click();
    await page.waitForURL(`**/conversations/${NOTEBOOK_SESSION}*`);
    await page.locator(".said.user").getByText("What is the capital of Peru?").first().waitFor();
    await page.locator(".said.tool").getByText("capital of Peru").first().waitFor();
    await page.locator(".said.assistant").getByText("Lima.").first().waitFor();
    await page.locator(".meta-line").getByText("42 → 5 tokens").waitFor();
    await visitor.close();
  });

  test("a trace without a model says what would be shown", async () => {
    const visitor = await Visitor.create(world.browser, world.server);
    const page = await visitor.enter(`/trace/${world.seeded.linking}?view=conversation`);
    await page.getByText("No model was called in this trace").waitFor();
    await page.goto(`${world.server.url}/conversations?start=2020-01-01T00:00:00Z&end=2020-01-02T00:00:00Z`);
    await page.getByText("No model was called in this time").waitFor();
    await page.getByText("The newest conversation is from").waitFor();
    await page.getByRole("button", { name: "Look at all time" }).click();
    await page.locator(".table.conversations tbody tr").first().waitFor();
    await visitor.close();
  });
}
