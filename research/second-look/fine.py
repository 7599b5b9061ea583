"""fine.py MINUTES BATCH LR OUT INIT"""
import sys, time, pathlib, copy, math
sys.path.insert(0,'/work/wt/run')
import numpy as np, soundfile, torch
from torch.nn import functional as F
from kws.data.running_sound import Composer, Sources
import kws.training.stream_training as T
from kws.model.loading import load_torch_model
from kws.model.modeling import KwsForAudioClassification
from kws.model.streaming import frame_logits
from kws.model.folder import SHIPPED
from torch.utils.data import DataLoader
torch.set_num_threads(1)
MIN,BATCH,LR,OUT,INIT=float(sys.argv[1]),int(sys.argv[2]),float(sys.argv[3]),sys.argv[4],sys.argv[5]
src=torch.load('/tmp/cache.pt',weights_only=False)
V=pathlib.Path('/tmp/voices')
sp=[soundfile.read(p,dtype='int16')[0] for p in sorted(pathlib.Path('/tmp/d/speech').glob('*.ogg')) if 'espeak' not in p.name and 'kokoro' not in p.name]
names=[p.name for p in sorted(pathlib.Path('/tmp/d/speech').glob('*.ogg')) if 'espeak' not in p.name and 'kokoro' not in p.name]
speech=[]
for n,x in zip(names,sp): speech+=[x]*(3 if 'sentences-en' in n else 1)
speech+=[np.load(V/'kokoro.npy')]*3
if (V/'languages.npy').exists(): speech+=[np.load(V/'languages.npy')]*2
others=list(src.others)
if (V/'near.npz').exists():
    z=np.load(V/'near.npz'); W='cleft weft reft bereft leapt bright fright stopped stopper stopping upper update upon ago writer cargo known righteous'.split(); c=z['clips'][~np.isin(z['words'],W)]; p=np.random.default_rng(0).permutation(len(c)); others+=[c[i] for i in np.array_split(p,10)]
src=Sources(src.keywords,others,speech,src.backgrounds,src.rooms)
print('speech min',round(sum(map(len,speech))/960000),'others',len(others),flush=True)
ship=load_torch_model(SHIPPED)
def net(path):
    ck=torch.load(path); c=copy.deepcopy(ship.config); c.architecture=ck['arch']; m=KwsForAudioClassification(c); m.load_state_dict(ck['weights']); return m.eval()
teachers=[net('/tmp/rs/gpu/large.pt').requires_grad_(False),net('/tmp/rs/gpu/base.pt').requires_grad_(False)]
pupil=net(INIT)
def histories(features,g):
    shape=(len(features),1,1,1); k=math.log(10)/10
    drawn=(-22+29*torch.rand(shape,generator=g))*k
    loud=torch.rand(shape,generator=g)<.2; drawn[loud]=((7+15*torch.rand(shape,generator=g))*k)[loud]
    drawn[torch.rand(shape,generator=g)<.35]=-torch.inf
    return features.amax(dim=(1,2,3),keepdim=True)+drawn
STEPS=10**6; r=T.Recipe(STEPS,BATCH,LR,3.0,.4,1,seed=int(sys.argv[6]) if len(sys.argv)>6 else 11)
L=T._Learner(pupil,4.0,r,torch.device('cpu')); L._mean=T.AveragedModel(L._model,multi_avg_fn=T.get_ema_multi_avg_fn(.995),use_buffers=True)
t0=time.time(); LIMIT=MIN*60
def share(step):
    d=min((time.time()-t0)/LIMIT,1.); return d/.05 if d<.05 else .5+.5*math.cos(math.pi*(d-.05)/.95)
L._schedule=torch.optim.lr_scheduler.LambdaLR(L._optimiser,share)
comp=Composer(src,16000,4.0,keyword_share=.6)
g=torch.Generator().manual_seed(5)
B=DataLoader(T.Compositions(comp,BATCH,r.seed),batch_size=None,sampler=range(STEPS),num_workers=1,prefetch_factor=4)
acc=np.zeros(2)
def save():
    m=copy.deepcopy(L._mean.module).eval(); torch.save({'arch':m.config.architecture,'weights':m.state_dict()},OUT)
for step,(sounds,words) in enumerate(B):
    if time.time()-t0>LIMIT: break
    with torch.no_grad():
        f=ship.features(sounds); h=histories(f,g); f=T._masked(f,g)
        zs=[frame_logits(t.network,f,h) for t in teachers]; n=min(z.shape[1] for z in zs)
        tp=torch.log(sum(F.softmax(z[:,:n],2) for z in zs)/len(zs)+1e-8)
    a=L.learn(L.rows(f,h),words,tp); acc+=[a[0].item(),a[1].item()]
    if step%50==49: print(step+1,round(time.time()-t0),'words %.3f sound %.4f'%tuple(acc/50),flush=True); acc[:]=0
    if step%300==299: save()
save(); print('done',flush=True)
