"""The translation engine: model, search, export. It knows nothing of distillation."""
