"""Policies: what to do with stale items, when to release a group, in which order, and who may call the model next."""
