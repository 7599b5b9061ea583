import sys; sys.argv=['x','g_small']
exec(open('/tmp/rs/nev.py').read().split("if __name__")[0])
def soft(z): z=z-z.max(1,keepdims=True); p=np.exp(z); return p/p.sum(1,keepdims=True)
S={n:load('g_'+n) for n in ('small','large','base')}
F={n:float(pathlib.Path('/tmp/rs/scores','g_'+n,'first').read_text()) for n in S}
def mixed(names,w=None,gate=None):
    out={}
    for s in ST:
        n=min(len(S[x][s.path]) for x in names)
        P=[np.log(soft(S[x][s.path][:n].astype(np.float64))+1e-9) for x in names]
        m=sum(P)/len(P)
        if gate:
            g,lo=gate; q=soft(S[g][s.path][:n].astype(np.float64)); off=q[:,:8].sum(1)<lo; m[off]=np.log(q[off]+1e-9)
            print(s.path,f'{1-off.mean():.4f}',end=' ') if 'neg' in s.path else None
        out[s.path]=m
    return out
print(H)
for names in (['base'],['large','base'],['large','small'],['large','base','small']):
    for sm in (.2,.3,.4):
        print(names,sm); at_fa(mixed(names),.02,.605,targets=(.9,),smoothing_seconds=sm)
for lo in (.02,.1,.3):
    print('gate',lo); m=mixed(['large','base','small'],gate=('small',lo)); print(); at_fa(m,.02,.605,targets=(.9,),smoothing_seconds=.3)
