"""The app: what its tabs do, how they look, and the page that Gradio makes of them.

page.py has the page, which app.py shows; each tab has a file of its own, and models.py finds the models on offer.
"""
