"""The explorer: one page, without server or network, that solves a finite world in the browser.

Two halves, with a seam between them. The model in the browser: ``world_data`` writes a world as plain data,
``model.js`` reads it, ``engine.js`` and ``account.js`` compute with it; none of them knows of a page. The page:
``page.html.jinja``, ``page*.js`` and ``page.css`` show it, and call ``Engine`` alone. ``explore`` puts both into one
file. A page of another kind brings data, scripts and a template of its own.

The data (JSON, in ``<script type="application/json" id="data">``)::

    title      what the world is called, with its settings
    size       how large it is, in words
    notes      [text]   what is to be known of it, for example that the infinite horizon is cut
    states     {count: S, labels: [S texts]}
    actions    {count: A, labels: [A texts], moves: [A of [right, down], or null where it is no move on the map]}
    clock      {horizon: T or null, discount: γ, timed: whether the slices differ over time,
                start: the T to begin with, longest: the largest T of the slider}
    map        {kind: "grid" or "graph", cell: [S cells, -1 off the map], marks: {cell: text}, and
                of a grid    rows, columns            a cell is row · columns + column
                of a graph   x, y [S in 0 … 1], edges [[s, s']]     a cell is the number of its state}
    options    [{name, values, labels: [texts], chosen: index}]      sliders that choose a variant
    variants   [tables]   one for each joint value of the options, row-major: the last option varies fastest
    arrays     {name: array}   shared by the tables: {type: "f8" | "i4", data}, or {type, values, index: "u1" | "u2",
                data} where values [data[i]] is entry i; data and values are base64 of little-endian numbers
    graph      {slices, nodes: [{id, variable, time, kind, observed, x, y}], edges: [[id, id]]} or null: the graphical
                model, of cai.graph; kind is state, action, latent, survival or optimality; x counts slices, y rows
    defaults   {temperature, coldest, warmest, eta}      reward units

Tables, each field the name of an array::

    initial [S]   log p(s_0)          terminal [S]   r_T(s_T)          ended [S]   1 where the episode has ended
    usual_reward  (a number) what most steps pay: what a step that bumps into a painted wall pays
    slice_at [T]  which slice stands for each time; null where the first stands for all
    slices [{log_prior [S·A], offset [S·A+1], log_prob [N], successor [N], reward [N], cell [N]}]
                  the outcomes of (s, a) are the entries offset[s·A+a] … offset[s·A+a+1]-1, those of probability zero
                  left out; cell is the map's cell that the outcome enters, -1 off the map

What the scripts offer is said at their heads.
"""
