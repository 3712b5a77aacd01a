"""One file per command; each reads what the one before left on disk and calls the rooms below.

In Python a stage is a function of a project, and mirrors the command of its name::

    from deepprofiler.project import Project
    from deepprofiler.commands.prepare import prepare

    prepare(Project("project/"))
"""
