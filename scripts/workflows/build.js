// Builds one story in the page's graph and gives back what the frontend saves.
(story) => {
  const { app, LiteGraph } = window
  const problems = []
  app.graph.clear()
  const nodes = {}
  for (const told of story.nodes) {
    const node = LiteGraph.createNode(told.type)
    if (!node) {
      problems.push(`no node ${told.type}`)
      continue
    }
    node.pos = [...told.at]
    if (told.title) node.title = told.title
    if (told.mode) node.mode = told.mode
    app.graph.add(node)
    nodes[told.key] = node
    for (const [name, value] of Object.entries(told.values)) {
      const widget = name ? node.widgets?.find((each) => each.name === name) : node.widgets?.[0]
      if (!widget) {
        problems.push(`${told.type} has no value ${name}`)
        continue
      }
      const options = widget.options?.values
      if (Array.isArray(options) && !options.includes(value)) problems.push(`${told.type}.${name} is never ${value}`)
      widget.value = value
      widget.callback?.(value, app.canvas, node)
    }
    const least = node.computeSize()
    node.setSize([Math.max(least[0], told.size?.[0] ?? 0), Math.max(least[1], told.size?.[1] ?? 0)])
  }
  for (const [from, output, to, input] of story.wires) {
    const slot = nodes[to]?.inputs?.findIndex((each) => each.name === input) ?? -1
    const place = nodes[from]?.outputs?.findIndex((each) => each.name === output) ?? -1
    if (slot < 0 || place < 0) problems.push(`no wire ${from}.${output} - ${to}.${input}`)
    else if (!nodes[from].connect(place, nodes[to], slot)) problems.push(`${from}.${output} - ${to}.${input} is refused`)
  }
  for (const { title, bounds, color } of story.groups) {
    const group = new LiteGraph.LGraphGroup(title)
    group.pos = bounds.slice(0, 2)
    group.size = bounds.slice(2)
    group.color = color
    app.graph.add(group)
  }
  const workflow = app.graph.serialize()
  const left = Math.min(...app.graph.nodes.map((node) => node.pos[0]))
  const top = Math.min(...app.graph.nodes.map((node) => node.pos[1]))
  workflow.extra = { ds: { scale: 0.7, offset: [120 - left, 140 - top] } } // the page's buttons lie over its edges
  return { workflow, problems }
}
