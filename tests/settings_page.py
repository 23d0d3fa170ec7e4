"""Trainer Settings on a page, by mouse and keyboard in both of the ways that the host draws nodes."""

NODE = "app.graph.nodes.find((node) => node.type === 'MixGRPO_TrainerSettings')"
SHOWN = f"""(name) => {{
  const widget = {NODE}.widgets.find((one) => one.name.replace("details.", "") === name);
  return widget && [widget.label, widget.value];
}}"""
SENT = "async () => Object.values((await app.graphToPrompt()).output).find((one) => 'preset' in one.inputs).inputs"
ARROW = f"""([name, forward]) => {{
  const node = {NODE}, widget = node.widgets.find((one) => one.name.replace("details.", "") === name);
  const {{ scale, offset }} = app.canvas.ds, box = app.canvas.canvas.getBoundingClientRect();
  const x = node.pos[0] + (forward ? node.size[0] - 24 : 24), y = node.pos[1] + widget.last_y + 10;
  return [box.x + (x + offset[0]) * scale, box.y + (y + offset[1]) * scale];
}}"""


class Settings:
    """What a user sees of one Trainer Settings node, and does to it."""

    def __init__(self, page, vue):
        self.page, self.vue = page, vue
        self.panel = page.locator(".mixgrpo-settings")

    def shows(self, name, value, label=None):
        label = label or name
        self.page.wait_for_function(
            f"([name, label, value]) => {{ const found = ({SHOWN})(name);"
            " return found && found[0] === label && found[1] === value; }",
            arg=[name, label, value],
            timeout=5000,
        )

    def button(self, key):
        return self.panel.locator(f'[data-key="{key}"]')

    def row(self, name):
        return self.page.locator("[data-testid=node-widget]").filter(has_text=name)

    def choose(self, name, value, steps=1):
        """Another option of a combo: in the list that opens, or ``steps`` clicks on its arrow."""
        if self.vue:
            self.row(name).get_by_role("combobox", name=name).click()
            self.page.get_by_role("option", name=value, exact=True).click()
            return
        for _ in range(abs(steps)):
            self.click(name, steps > 0)

    def more(self, name):
        """One step up."""
        if self.vue:
            self.row(name).get_by_role("button").last.click()
        else:
            self.click(name, True)

    def type(self, name, value):
        """A value by keyboard, as the host lets one type it."""
        if self.vue:
            self.row(name).get_by_role("spinbutton").click(force=True)  # the host lays a handle over it
        else:
            x, y = self.page.evaluate(ARROW, [name, True])
            self.page.mouse.dblclick(x - 60, y)
        self.page.wait_for_timeout(400)
        self.page.keyboard.press("Control+a")
        self.page.keyboard.type(str(value))
        self.page.keyboard.press("Enter")

    def click(self, name, forward):
        self.page.mouse.click(*self.page.evaluate(ARROW, [name, forward]))
        self.page.wait_for_timeout(350)  # else it were a double click

    def height(self):
        return self.page.evaluate(f"{NODE}.size[1]")

    def sent(self):
        return self.page.evaluate(SENT)

    def saved(self):
        return self.page.evaluate(f"{NODE}.serialize().widgets_values")
