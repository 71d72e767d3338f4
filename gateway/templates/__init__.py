"""Templates: texts with typed params, versioned and registered with carriers; from `templates.toml` and the admin API.

`model` is their shape, `load` reads them, `params` checks what an application sends, `render` is the one place that
knows the template language, `registry` keeps each worker at the versions that are in force. Stands between the store
and intake.
"""
