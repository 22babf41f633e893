"""Complete mediation: which security hook of Xen dominates the effect of which hypercall."""
