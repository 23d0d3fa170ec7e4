// Builds one story in the page's graph, as high as Vue draws its nodes, and gives back what the frontend saves.
async (story) => {
  const { app, LiteGraph } = window
  const BELOW = 30 // below a node, besides the title of the next
  const problems = []
  app.graph.clear()
  await new Promise((later) => setTimeout(later, 800)) // the page may still be opening what it showed last
  app.graph.clear()
  await new Promise((later) => setTimeout(later, 300))
  const nodes = {}
  for (const told of story.nodes) {
    const node = LiteGraph.createNode(told.type)
    if (!node) {
      problems.push(`no node ${told.type}`)
      continue
    }
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
  }
  for (const [from, output, to, input] of story.wires) {
    const slot = nodes[to]?.inputs?.findIndex((each) => each.name === input) ?? -1
    const place = nodes[from]?.outputs?.findIndex((each) => each.name === output) ?? -1
    if (slot < 0 || place < 0) problems.push(`no wire ${from}.${output} - ${to}.${input}`)
    else if (!nodes[from].connect(place, nodes[to], slot)) problems.push(`${from}.${output} - ${to}.${input} is refused`)
  }
  for (const told of story.nodes) {
    const node = nodes[told.key]
    node?.setSize([story.columns[told.column].width, Math.max(node.computeSize()[1], told.height)])
  }
  await new Promise((later) => setTimeout(later, 1500)) // Vue makes nodes as high as they need to be
  let left = 0
  story.columns.forEach(({ width, top, gap }, column) => {
    let y = top
    left += gap
    for (const { key, collapsed } of story.nodes.filter((told) => told.column === column)) {
      const node = nodes[key]
      if (!node) continue
      node.pos = [left, y]
      if (collapsed) node.collapse()
      y += (collapsed ? 0 : node.size[1]) + LiteGraph.NODE_TITLE_HEIGHT + BELOW
    }
    left += width
  })
  await new Promise((later) => setTimeout(later, 500))
  const workflow = app.graph.serialize()
  // The page's buttons lie over its edges; web/opening.js looks for the mark.
  workflow.extra = { ds: { scale: 0.7, offset: [95, 170] }, mixgrpo_example: true }
  return { workflow, problems }
}
